"""The one resize, and the network between two of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

import students
from distill.distillation.dataset import MEAN, STD
from distill.inference import load_model
from distill.inference.model import InferenceModel
from distill.runtime.resize import resize

SIDES = st.integers(1, 90)


def image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, rows=SIDES, columns=st.integers(2, 90))  # of one column torch 2.15 repeats a row
def test_resize_equals_torchs_antialiased_interpolation(height, width, rows, columns):
    pixels = image(2, 3, height, width)
    expected = F.interpolate(pixels, (rows, columns), mode="bilinear", antialias=True)
    torch.testing.assert_close(resize(pixels, (rows, columns)), expected, atol=1e-5, rtol=0)


def test_resize_reads_bytes_with_channels_innermost_as_it_reads_floats():
    pixels = (255 * image(50, 70, 3)).byte()
    expected = F.interpolate(pixels.permute(2, 0, 1)[None].float(), (20, 96), mode="bilinear", antialias=True)
    torch.testing.assert_close(resize(pixels.permute(2, 0, 1)[None], (20, 96)), expected, atol=255e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(SIDES, SIDES),
    grid=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_crop_of_the_resized_image_equals_the_resized_crop(size, grid, corners):
    top, left = (int(corner * (cells - 1)) for corner, cells in zip(corners[:2], grid, strict=True))
    bottom = top + 1 + int(corners[2] * (grid[0] - top - 1))
    right = left + 1 + int(corners[3] * (grid[1] - left - 1))
    pixels = image(1, 2, *size)
    box = (top / grid[0], left / grid[1], bottom / grid[0], right / grid[1])
    crop = resize(pixels, (bottom - top, right - left), box=box)
    torch.testing.assert_close(crop, resize(pixels, grid)[..., top:bottom, left:right], atol=2e-5, rtol=0)


def test_a_box_at_the_images_own_resolution_is_a_plain_cut():
    pixels = image(1, 3, 32, 64)
    assert torch.equal(resize(pixels, (8, 16), box=(0.25, 0.5, 0.5, 0.75)), pixels[..., 8:16, 32:48])


@settings(deadline=None)
@given(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)), st.floats(0.02, 1), st.tuples(SIDES, SIDES))
def test_a_grey_image_stays_grey_in_any_box(corner, side, size):
    box = (*corner, *(min(1.0, start + side) for start in corner))
    grey = torch.full((1, 1, 40, 30), 7.0)
    torch.testing.assert_close(resize(grey, size, box=box), torch.full((1, 1, *size), 7.0))


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (0, 0.6, 1, 0.5), (-0.1, 0, 1, 1), (0, 0, 1, 1.2)])
def test_an_empty_box_or_one_outside_the_image_is_refused(box):
    with pytest.raises(ValueError, match=r"expected a box \(y0, x0, y1, x1\) with 0 <= y0 < y1 <= 1"):
        resize(image(1, 3, 8, 8), (4, 4), box=box)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("size", [(33, 71), (64, 64), (20, 130)])
def test_the_inference_model_is_resize_normalise_segment_and_resize_back(classes, size):
    torch.manual_seed(0)
    student = students.create("unet", width=4, classes=classes).eval()
    pixels = (255 * image(2, *size, 3)).byte()
    with torch.inference_mode():
        seen = resize(pixels.permute(0, 3, 1, 2), (64, 64)) / 255
        logits = student((seen - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
        expected = resize(logits.sigmoid() if classes == 1 else logits.softmax(dim=1), size)
        found = InferenceModel(student, image_size=64).eval()(pixels)
    assert found.shape == (2, classes, *size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    if classes > 1:
        torch.testing.assert_close(found.sum(dim=1), torch.ones(2, *size))


def test_predict_takes_any_array_and_gives_the_probability_at_its_size():
    model = InferenceModel(students.create("unet", width=4), image_size=32).eval()
    pixels = (255 * image(45, 30, 3)).byte().numpy()
    mirrored = model.predict(pixels[:, ::-1])
    assert mirrored.shape == (1, 45, 30)
    assert mirrored.dtype == np.float32
    np.testing.assert_array_equal(mirrored, model.predict(np.ascontiguousarray(pixels[:, ::-1])))


@pytest.mark.parametrize("change", ["float32", "uint16", "grey", "alpha", "channels first", "batch"])
def test_predict_refuses_what_is_no_rgb_image_of_bytes(change):
    model = InferenceModel(students.create("unet", width=4), image_size=32).eval()
    pixels = np.zeros((45, 30, 3), np.uint8)
    given = {
        "grey": pixels[..., 0],
        "alpha": np.zeros((45, 30, 4), np.uint8),
        "channels first": pixels.transpose(2, 0, 1),
        "batch": pixels[None],
    }
    with pytest.raises(ValueError, match=r"expected an RGB image of uint8 and shape \(H, W, 3\), got "):
        model.predict(given[change] if change in given else pixels.astype(change))


@pytest.mark.parametrize("temperature", [0.1, 0.8, 1.5, 10.0])
def test_the_temperature_divides_logits_to_the_last_digits(temperature):
    student = students.create("unet", width=4).eval()
    logits = torch.linspace(-60, 60, 32 * 32).view(1, 1, 32, 32)
    student.forward = lambda _: logits
    model = InferenceModel(student, image_size=32, temperature=temperature).eval()
    expected = (logits / temperature).sigmoid()
    torch.testing.assert_close(model(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)), expected, atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("error")
def test_predict_takes_an_image_of_pillow_which_is_read_only_and_warns_of_nothing():
    model = InferenceModel(students.create("unet", width=4), image_size=32).eval()
    pixels = np.asarray(Image.fromarray((255 * image(45, 30, 3)).byte().numpy()))
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(model.predict(pixels), model.predict(pixels.copy()))


def test_an_image_of_the_students_own_size_passes_both_resizes_unchanged():
    model = InferenceModel(students.create("unet", width=4), image_size=32).eval()
    pixels = (255 * image(1, 32, 32, 3)).byte()
    with torch.inference_mode():
        expected = model.student((pixels.permute(0, 3, 1, 2) / 255 - model.mean) / model.std).sigmoid()
        torch.testing.assert_close(model(pixels), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image_size": None},
            r"expected image_size to be a whole number .*, got null; publish the student again with",
        ),
        ({"threshold": None}, r"expected threshold to be a number .*, got null"),
        ({"mean": 0.5}, r"expected mean to be a list of three numbers .*, got 0\.5"),
    ],
)
def test_a_config_without_how_images_are_shown_is_refused(tmp_path, change, message):
    config = {"student": "unet", "width": 2, "image_size": 32, "mean": MEAN, "std": STD, "threshold": 0.4, **change}
    students.create("unet", width=2).save_pretrained(tmp_path, config=config)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)
