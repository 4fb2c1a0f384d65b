"""Augmentation of a training image: hue as torchvision turns it, boxes that follow a flip, class numbers of a mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from cache.series import WHOLE
from cache.spec import VIEWS, flip
from distill.data.augment import EMPTY_SIDES, LARGEST_ASPECT, Draw, colour, draw_box, draw_empty_box, mirrored, turn_hue
from distill.distillation.dataset import classes_in, resize_image, resize_mask


@pytest.mark.parametrize("turn", [0.0, 0.01, -0.01, 0.3, -0.5])
def test_hue_turns_as_torchvision_turns_it(turn):
    image = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(0))
    image[:, :4] = image[:1, :4]  # grey
    image[:, 4:6], image[:, 6:8] = 0, 1
    image[0, 8:10], image[1, 8:10] = 0.7, 0.7  # two channels are the largest
    assert torch.allclose(turn_hue(image, turn), functional.adjust_hue(image, turn), atol=5e-6)


def test_colour_is_what_torchvision_makes_of_the_same_factors():
    image = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(0))
    for drawn in (Draw("identity", WHOLE, 1.1, 0.8, 1.3, 0.02), Draw("identity", WHOLE, 0.7, 1.4, 0.5, -0.05)):
        expected = functional.adjust_brightness(image, drawn.brightness)
        expected = functional.adjust_contrast(expected, drawn.contrast)
        expected = functional.adjust_saturation(expected, drawn.saturation)
        before = image.clone()
        found = colour(image, drawn)
        assert torch.allclose(found, functional.adjust_hue(expected, drawn.hue), atol=1e-5)
        assert torch.equal(image, before)


@pytest.mark.parametrize("view", VIEWS)
def test_a_flipped_crop_is_the_crop_of_the_flipped_image(view):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    mask = (random.random((40, 56)) > 0.5).astype(np.uint8)
    for box in (WHOLE, draw_box(0.5, random), draw_box(0.5, random)):
        there = mirrored(box, view)
        assert mirrored(there, view) == pytest.approx(box)
        turned = resize_image(np.ascontiguousarray(flip(image, view, axes=(0, 1))), (16, 20), box)
        assert torch.allclose(flip(resize_image(image, (16, 20), there), view), turned, atol=1e-3)
        turned = resize_mask(flip(mask, view), (16, 20), box)
        assert (flip(resize_mask(mask, (16, 20), there), view) == turned).mean() > 0.99  # a share may be one half


@pytest.mark.parametrize("values", [[0], [1], [0, 1], [254, 255], [0, 255], [0, 1, 2, 255]])
def test_the_classes_of_a_mask_are_those_that_occur(values):
    mask = np.random.default_rng(0).choice(values, (9, 7)).astype(np.uint8)
    mask.flat[: len(values)] = values
    assert classes_in(mask).tolist() == values
    assert classes_in(mask).dtype == np.uint8


def test_an_empty_box_shows_no_object_and_nothing_unknown():
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[10:20, 10:30], mask[50:, 70:] = 1, 255
    random = np.random.default_rng(0)
    boxes = [box for _ in range(50) if (box := draw_empty_box(mask, random))]
    assert len(boxes) > 40
    for y0, x0, y1, x1 in boxes:
        assert not resize_mask(mask, (16, 16), (y0, x0, y1, x1)).any()
        assert 0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1
        low, high = EMPTY_SIDES
        assert low - 1e-9 <= ((y1 - y0) * (x1 - x0)) ** 0.5 <= high + 1e-9
        assert 1 / LARGEST_ASPECT <= (y1 - y0) / (x1 - x0) <= LARGEST_ASPECT
    assert draw_empty_box(np.ones((60, 80), dtype=np.uint8), random) is None
