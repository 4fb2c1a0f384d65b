"""The image score: the soft Dice confidence, and how well it finds masks that failed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from distill.inference.regions import image_score, measure_regions
from distill.metrics.image_score import expected_dice, failure_auroc


def test_the_score_is_the_soft_dice_of_the_mask_and_its_probability():
    probability = np.array([[0.9, 0.8, 0.1], [0.6, 0.2, 0.0]], np.float32)
    mask = probability >= 0.5
    assert expected_dice(mask, probability) == pytest.approx(2 * 2.3 / (3 + 2.6))
    assert expected_dice(mask, mask.astype(np.float32)) == 1


def test_of_an_empty_mask_it_is_the_probability_that_nothing_is_there():
    probability = np.array([[0.3, 0.1]], np.float32)
    assert expected_dice(probability >= 0.5, probability) == pytest.approx(0.7)
    assert expected_dice(np.zeros((1, 2), bool), np.array([[1.0005, 0]])) == 0


def test_it_comes_close_to_the_mean_dice_of_masks_drawn_from_the_probability():
    random = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    probability = 1 / (1 + np.exp((np.hypot(y - 20, x - 18) - 9) / 2))
    mask = probability >= 0.5
    drawn = random.random((500, 40, 40)) < probability
    dice = 2 * (drawn & mask).sum(axis=(1, 2)) / (drawn.sum(axis=(1, 2)) + mask.sum())
    assert expected_dice(mask, probability) == pytest.approx(dice.mean(), abs=0.002)


def test_auroc_counts_ties_half_and_equals_the_rank_test_of_scipy():
    random = np.random.default_rng(0)
    dice = random.random(200)
    scores = np.round(0.5 * dice + 0.5 * random.random(200), 1)
    found, failed = failure_auroc(scores, dice), dice < 0.5
    assert (found["images"], found["failed"], found["reason"]) == (200, int((dice < 0.5).sum()), None)
    assert found["auroc"] == pytest.approx(
        mannwhitneyu(-scores[failed], -scores[~failed]).statistic / (failed.sum() * (~failed).sum())
    )
    assert failure_auroc([0.1, 0.9], [0.2, 0.8])["auroc"] == 1
    assert failure_auroc([0.5, 0.5], [0.2, 0.8])["auroc"] == 0.5


@pytest.mark.parametrize(("dice", "reason"), [([0.5, 0.9], "no image has"), ([0.1, 0.2], "every image has")])
def test_where_no_mask_or_every_mask_failed_there_is_no_auroc_and_the_reason_is_told(dice, reason):
    found = failure_auroc([0.3, 0.4], dice)
    assert found["auroc"] is None
    assert found["reason"] == f"{reason} a Dice below 0.5"


def test_regions_have_the_score_of_their_class_and_an_image_the_mean_of_those_found():
    probability = np.zeros((3, 2, 2), np.float32)
    probability[:, 0] = [[0.1, 0.8], [0.6, 0.1], [0.3, 0.1]]
    probability[0, 1] = 1
    labels = probability.argmax(axis=0).astype(np.uint8)
    first, second = measure_regions(labels, probability)
    assert first.expected_dice == pytest.approx(2 * 0.6 / (1 + 0.7))
    assert second.expected_dice == pytest.approx(1 - 0.3)
    assert first.row()["expected_dice"] == f"{first.expected_dice:.4f}"
    assert image_score(labels, probability) == pytest.approx(first.expected_dice)
    assert image_score(np.zeros_like(labels), probability) == pytest.approx(min(1 - 0.6, 1 - 0.3))
    alone = probability[1:2]
    assert image_score(alone[0] >= 0.5, alone) == pytest.approx(2 * 0.6 / (1 + 0.7))
