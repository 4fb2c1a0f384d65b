"""The thresholds with which a student is served: the best Dice, with no fewer objects found than at 0.5."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from small_run import disc_sample

from distill.inference.thresholds import Thresholds
from distill.metrics.overlap import dice
from distill.publishing.operating_point import PIXELS, REGIONS, choose_thresholds, try_all

SIZE = (24, 24)
OBJECT, ELSEWHERE = (slice(2, 10), slice(2, 10)), (slice(14, 20), slice(14, 20))


def read_mask(shown):
    mask = np.zeros(SIZE, np.uint8)
    mask[OBJECT] = shown
    return mask


def read_image(number):
    return np.full((*SIZE, 3), number, np.uint8)


def choose(*images, **options):
    """The choice for images, each given by the probability of its object (None: it has none) and of something else."""
    probabilities, samples = [], []
    for number, (true, false) in enumerate(images):
        probability = np.full((1, *SIZE), 0.01, np.float32)
        probability[0][OBJECT], probability[0][ELSEWHERE] = true or 0.01, false
        probabilities.append(probability)
        readers = {"read_image": partial(read_image, number), "read_mask": partial(read_mask, true is not None)}
        samples.append(replace(disc_sample("left", number, SIZE), **readers))
    return choose_thresholds(lambda image: probabilities[image[0, 0, 0]], samples, **options)


def test_a_region_threshold_drops_what_is_less_sure_than_every_object():
    found = choose((0.97, 0.6), (0.92, 0.93), (None, 0.85))
    assert found.thresholds == Thresholds(0.5, 0.9)
    assert (found.images, found.shown) == (3, 2)
    assert (found.usual.found, found.usual.false_alarms) == (2, 1)
    assert (found.chosen.found, found.chosen.false_alarms) == (2, 0)
    assert found.chosen.dice == pytest.approx((1 + 128 / (64 + 36 + 64) + 1) / 3)


def test_no_object_that_is_found_at_a_half_is_lost_for_a_better_dice():
    images = [(0.55, 0.01), *[(None, 0.85)] * 20]
    found = choose(*images)
    assert found.thresholds == Thresholds(0.5, 0.0)
    assert found.chosen == found.usual
    free = choose(*images, sensitivity=0.0)
    assert (free.chosen.found, free.chosen.false_alarms) == (0, 0)
    assert free.chosen.dice == pytest.approx(20 / 21)


def test_more_objects_may_be_asked_for_than_are_found_at_a_half():
    found = choose((0.97, 0.0), (0.32, 0.0), (None, 0.3), (None, 0.2), sensitivity=1.0)
    assert (found.chosen.threshold, found.chosen.found, found.chosen.false_alarms) == (0.3, 2, 1)
    with pytest.raises(
        ValueError, match=r"sensitivity=1 asks for a finding in 100% of the 2 images .* more than 1; ask"
    ):
        choose((0.97, 0.0), (0.02, 0.0), sensitivity=1.0)


def test_every_region_threshold_above_the_pixels_is_told():
    found = choose((0.97, 0.6), (0.92, 0.93), (None, 0.85))
    assert [point.region_threshold for point in found.points] == list(REGIONS)
    assert [point.false_alarms for point in found.points[:5]] == [1, 1, 1, 1, 0]
    assert [point.found for point in found.points[-6:]] == [1, 1, 0, 0, 0, 0]
    assert json.loads(json.dumps(found.record()))["points"][4]["found"] == 2


def test_images_without_objects_alone_ask_for_silence():
    found = choose((None, 0.6), (None, 0.2))
    assert (found.shown, found.chosen.found, found.chosen.false_alarms, found.chosen.dice) == (0, 0, 0, 1.0)


def test_a_probability_of_exactly_a_region_threshold_reaches_it():
    probability = np.where(read_mask(True) > 0, np.float32(0.9), np.float32(0.01))
    assert try_all(probability, read_mask(True)).dice[PIXELS.index(0.5), REGIONS.index(0.9)] == 1


@pytest.mark.parametrize("shown", [True, False])
def test_a_trial_is_what_the_masks_of_these_thresholds_score(shown):
    random = np.random.default_rng(0)
    probability, mask = random.random((1, *SIZE)).astype(np.float32) ** 2, read_mask(shown)
    trial = try_all(probability[0], mask)
    for row, pixel in enumerate(PIXELS):
        for column, region in enumerate(REGIONS):
            found = Thresholds(pixel, region).mask(probability) > 0
            assert trial.dice[row, column] == pytest.approx(dice(found, mask > 0))
            assert trial.hit[row, column] == (found & (mask > 0)).any()
            assert trial.alarm[row, column] == found.any()
