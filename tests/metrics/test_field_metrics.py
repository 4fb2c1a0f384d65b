"""The figures of the field: equal to two libraries on their fixture, to loops, and to counts by hand."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from distill.metrics.aggregate import size_of, summarise_empty, summarise_set, summarise_sizes
from distill.metrics.bootstrap import resampled_means
from distill.metrics.confusion import class_pairs, pool
from distill.metrics.names import FIGURES, conventions
from distill.metrics.overlap import specificity
from distill.metrics.per_image import count_patches, score_classes, score_everything
from distill.metrics.saliency import s_measure, weighted_f_measure
from distill.metrics.score_table import ScoreTable
from distill.metrics.surface import (
    average_surface_distance,
    boundary_iou,
    contour,
    contour_distances,
    hd95,
    inner_band,
    surface_dice,
)
from distill.metrics.threshold_sweep import curves, stretch

EMPTY = np.zeros((6, 8), dtype=bool)
NAMES = {"hd95_pixels": "hd95", "surface_dice_tolerance_2px": "surface_dice", "dice_at_half": "dice"} | {
    "iou_at_half": "iou"
}
OF_SET = {"e_measure_max": "e_measure_max_of_set", "dice_max_over_thresholds": "dice_max_of_set"}


def square(top, left, side, size=(40, 50)):
    mask = np.zeros(size, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.fixture(scope="module")
def golden(shared):
    expected = json.loads((shared / "golden" / "metrics.json").read_text())
    with np.load(shared / "golden" / "metrics.npz") as pairs:
        scores = {name: score_everything(pairs[f"p{name}"] / 255, pairs[f"g{name}"]) for name in expected["per_image"]}
    return expected, scores


def test_every_figure_of_every_pair_equals_pysodmetrics_and_monai(golden):
    expected, scores = golden
    for pair, figures in expected["per_image"].items():
        true, false, missed, rest = (figures.pop(name) for name in ("tp", "fp", "fn", "tn"))
        assert scores[pair].counts == (true, false, missed, rest)
        for name, value in figures.items():
            if value is not None:  # both masks are empty: the libraries leave Dice at a threshold open, here it is 1
                assert scores[pair].figures[NAMES.get(name, name)] == pytest.approx(value, abs=1e-5), (pair, name)


@pytest.mark.parametrize(("part", "last"), [("set_00_to_15", 16), ("set_all", 25)])
def test_the_figures_of_a_set_equal_those_of_pysodmetrics(golden, part, last):
    expected, scores = golden
    found = summarise_set(ScoreTable.of(list(scores.values())[:last]), resamples=20)
    for name, value in expected[part].items():
        assert found[OF_SET.get(name, name)]["mean"] == pytest.approx(value, abs=1e-9), name
    if last == len(scores):
        for name, value in expected["pooled_at_half"].items():
            assert found[f"{name}_pooled"]["mean"] == pytest.approx(value, abs=1e-9)


def loop(stretched, truth):
    """Dice, IoU and E-measure at each threshold, one threshold after another and pixel by pixel."""
    found = []
    for threshold in range(256):
        positive = (stretched * 255).astype(np.uint8) >= threshold
        both, either = np.count_nonzero(positive & truth), np.count_nonzero(positive | truth)
        a, b = positive - positive.mean(), truth - truth.mean()
        aligned = np.divide(2 * a * b, a * a + b * b, out=np.zeros(a.shape), where=a * a + b * b > 0)
        e_measure = ((aligned + 1) ** 2 / 4).sum() / (truth.size - 1)
        found.append((2 * both / (either + both) if either else 0, both / either if either else 0, e_measure))
    return np.array(found).T


@settings(deadline=None, max_examples=30)
@given(arrays.arrays(np.uint8, (5, 7)), arrays.arrays(bool, (5, 7)))
def test_256_thresholds_at_once_equal_a_loop_over_them(grey, truth):
    stretched = stretch(grey / 255)
    found, expected = curves(stretched, truth), loop(stretched, truth)
    np.testing.assert_allclose([found.dice, found.iou], expected[:2], atol=1e-12)
    if 0 < truth.mean() < 1:
        np.testing.assert_allclose(found.e_measure, expected[2], atol=1e-12)


def test_256_thresholds_at_once_take_a_fraction_of_a_loop_s_time():
    truth = square(60, 60, 80, (200, 260))
    stretched = stretch(ndimage.gaussian_filter(truth.astype(float), 5))
    seconds = []
    for way in (curves, loop):
        began = time.thread_time()
        way(stretched, truth)
        seconds.append(time.thread_time() - began)
    assert seconds[1] / seconds[0] > 20  # measured on 288 x 384: 330, and 9 against a loop for Dice and IoU alone


def test_a_constant_prediction_is_not_stretched_and_another_is():
    assert stretch(np.full((2, 2), 0.3)).tolist() == [[0.3, 0.3], [0.3, 0.3]]
    assert stretch(np.array([[0.2, 0.3], [0.4, 0.4]])) == pytest.approx(np.array([[0, 0.5], [1, 1]]))


def test_specificity_is_the_share_of_the_background_left_alone():
    truth, found = square(0, 0, 20), square(0, 10, 20)
    assert specificity(found, truth) == pytest.approx(1 - 200 / 1600)
    assert specificity(found, np.ones_like(found)) == 1


def test_a_miss_at_the_object_s_edge_and_a_false_positive_far_away_weigh_as_margolin_says():
    truth = square(10, 10, 10)
    near, far = truth.astype(float), truth.astype(float)
    near[14, 20], far[14, 45] = 1, 1
    for found, distance in ((near, 1), (far, 26)):
        precision = 100 / (100 + 2 - 2 ** (-distance / 5))
        assert weighted_f_measure(found, truth) == pytest.approx(2 * precision / (1 + precision))


def test_structure_is_one_of_the_mask_itself_and_survives_a_mask_in_the_corner():
    truth = square(30, 40, 10)
    assert s_measure(truth.astype(float), truth) == pytest.approx(1)
    assert 0 <= s_measure(1 - truth.astype(float), truth) < 0.1
    corner = np.zeros((4, 5), dtype=bool)
    corner[3, 4] = True
    assert s_measure(corner.astype(float), corner) == pytest.approx(1)


def test_a_square_moved_by_three_pixels_lies_three_pixels_off():
    truth, moved = square(10, 10, 12), square(10, 13, 12)
    distances = contour_distances(moved, truth)
    assert len(distances.of_truth) == 4 * 11
    assert contour(truth).sum() == 4 * 11
    assert hd95(distances) == 3
    by_hand = np.concatenate([ndimage.distance_transform_edt(~contour(b))[contour(a)] for a, b in _both(truth, moved)])
    assert average_surface_distance(distances) == pytest.approx(by_hand.mean())
    assert surface_dice(distances, tolerance=2) == pytest.approx((by_hand <= 2).mean())
    assert surface_dice(distances, tolerance=3) == 1


def _both(one, other):
    return (one, other), (other, one)


@settings(deadline=None, max_examples=30)
@given(arrays.arrays(bool, (9, 11)), st.integers(1, 4))
def test_the_inner_band_is_what_an_erosion_by_a_square_takes_away(mask, width):
    eroded = ndimage.minimum_filter(mask.astype(np.uint8), size=2 * width + 1, mode="constant") > 0
    assert (inner_band(mask, width) == (mask & ~eroded)).all()


def test_boundary_iou_counts_the_bands_alone():
    truth, found = square(0, 0, 100, (200, 200)), square(0, 0, 90, (200, 200))
    width = round(0.02 * math.hypot(200, 200))
    bands = [side**2 - (side - 2 * width) ** 2 for side in (100, 90)]
    overlap = 2 * 90 * width - width**2  # both share the top and left sides; 10 pixels apart, 6 wide, no others
    assert boundary_iou(found, truth) == pytest.approx(overlap / (sum(bands) - overlap))
    assert boundary_iou(truth, truth) == 1


def test_empty_masks_have_their_conventions():
    one = np.zeros_like(EMPTY)
    one[2, 3] = True
    both = score_everything(np.zeros(EMPTY.shape), EMPTY).figures
    missed, invented = score_everything(np.zeros(EMPTY.shape), one).figures, score_everything(one * 1.0, EMPTY).figures
    best = ("dice", "iou", "sensitivity", "specificity", "precision", "surface_dice", "boundary_iou", "s_measure")
    assert [both[name] for name in best] == [1] * len(best)
    assert (both["hd95"], both["average_surface_distance"], both["mae"]) == (0, 0, 0)
    assert (both["dice_mean_over_thresholds"], both["weighted_fmeasure"]) == (0, 0)  # as PySODMetrics
    for figures in (missed, invented):
        assert [figures[name] for name in ("dice", "iou", "surface_dice", "boundary_iou")] == [0, 0, 0, 0]
        assert figures["hd95"] == figures["average_surface_distance"] == 10  # the diagonal of 6 x 8
    assert set(both) <= set(FIGURES)


def test_all_figures_are_finite_whatever_is_scored():
    random = np.random.default_rng(0)
    for probability in (np.zeros((5, 6)), np.ones((5, 6)), random.uniform(size=(5, 6)), np.eye(5, 6)):
        for mask in (np.zeros((5, 6)), np.ones((5, 6)), np.eye(5, 6), random.integers(0, 2, (5, 6))):
            figures = score_everything(probability.astype(np.float32), mask).figures
            assert all(math.isfinite(value) for value in figures.values()), figures


def test_a_wrong_probability_is_refused():
    with pytest.raises(ValueError, match=r"mask's shape \(6, 8\), got \(5, 8\); resize the probability to the mask"):
        score_everything(np.zeros((5, 8)), EMPTY)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 0 to 255; give grey values divided by 255"):
        score_everything(np.linspace(0, 255, EMPTY.size).reshape(EMPTY.shape), EMPTY)
    with pytest.raises(ValueError, match="got nan to nan"):
        score_everything(np.full(EMPTY.shape, np.nan), EMPTY)


def test_classes_are_scored_one_against_the_rest_and_ignored_pixels_count_for_nothing():
    truth, found = np.zeros((2, 40, 50), dtype=np.uint8)
    truth[square(0, 0, 20)], found[square(0, 0, 10)] = 1, 1
    truth[square(20, 30, 10)], found[square(20, 30, 10)] = 2, 2
    truth[39], found[39] = 255, 3
    figures = score_classes(found, truth, classes=5)
    assert set(figures) == {1, 2}
    assert figures[1]["dice"] == pytest.approx(2 * 100 / 500)
    assert (figures[2]["dice"], figures[2]["hd95"], figures[2]["surface_dice"]) == (1, 0, 1)


def test_pixels_of_several_classes_are_pooled_over_images():
    truth = np.array([[0, 0, 1, 1], [2, 2, 255, 255]])
    found = np.array([[0, 1, 1, 1], [2, 0, 3, 0]])
    pairs = class_pairs(found, truth, classes=4)
    assert pairs == {(0, 0): 1, (0, 1): 1, (1, 1): 2, (2, 2): 1, (2, 0): 1}
    empty = np.zeros((5, 5), dtype=np.uint8)
    pooled = pool(Counter(pairs) + Counter(class_pairs(empty, empty, classes=4)), classes=4)
    assert pooled["confusion"] == [[26, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert pooled["iou"] == pytest.approx({"0": 26 / 28, "1": 2 / 3, "2": 1 / 2}), "class 3 occurs nowhere"
    assert pooled["miou"] == pytest.approx((26 / 28 + 2 / 3 + 1 / 2) / 3)
    unknown = class_pairs(found, np.full_like(truth, 255), classes=4)
    assert pool(unknown, classes=4)["iou"] == {}


def test_many_figures_are_resampled_as_one_is():
    table = np.random.default_rng(0).uniform(size=(9, 3))
    means = resampled_means(table, resamples=300, seed=5)
    for column in range(3):
        alone = resampled_means(table[:, [column]], resamples=300, seed=5)
        assert means[:, column] == pytest.approx(alone[:, 0])
    with pytest.raises(ValueError, match="at least one image"):
        resampled_means(np.zeros((0, 3)))


def test_pooled_dice_divides_once_and_its_interval_spans_it(monkeypatch):
    monkeypatch.setattr("distill.metrics.bootstrap.LEAST_GROUPS", 2)
    truths, found = (square(0, 0, 20), square(0, 0, 4)), (square(0, 0, 20), square(20, 20, 4))
    scores = [score_everything(p * 1.0, g) for p, g in zip(found, truths, strict=True)]
    summary = summarise_set(ScoreTable.of(scores), resamples=200)
    assert summary["dice"]["mean"] == pytest.approx(1 / 2)
    assert summary["dice_pooled"]["mean"] == pytest.approx(2 * 400 / (2 * 400 + 16 + 16))
    assert (summary["dice_pooled"]["low"], summary["dice_pooled"]["high"]) == (0, 1)
    assert set(summary) <= set(FIGURES)
    assert "threshold 0.4" in conventions(threshold=0.4, tolerance=2)["dice_pooled"]
    with pytest.raises(ValueError, match="at least one image"):
        summarise_set(ScoreTable.of([]), resamples=10)


def test_images_are_grouped_by_the_share_of_their_mask():
    assert [size_of(share) for share in (0.001, 0.05, 0.051, 0.15, 0.16, 1.0)] == ["small"] * 2 + ["medium"] * 2 + [
        "large"
    ] * 2
    masks = [square(0, 0, 5), square(0, 0, 10), square(0, 0, 15), np.zeros((40, 50), dtype=bool)]  # 1.25, 5, 11.25 %
    groups = summarise_sizes(ScoreTable.of([score_everything(mask * 1.0, mask) for mask in masks]), resamples=10)
    assert {name: group["images"] for name, group in groups.items()} == {"small": 2, "medium": 1}
    assert groups["small"]["dice"]["mean"] == 1


def test_false_positives_are_patches_on_frames_without_foreground():
    found = np.zeros((6, 8))
    found[0, 0] = found[1, 1] = found[4:, 5:] = 1  # two patches: pixels that touch at a corner are one
    assert count_patches(found > 0) == 2
    scores = [score_everything(found, EMPTY), score_everything(EMPTY * 1.0, EMPTY), score_everything(found, found)]
    figures = summarise_empty(ScoreTable.of(scores), resamples=50)
    assert figures["images"] == 2
    assert figures["false_positives_per_frame"]["mean"] == 1
    assert figures["frames_with_false_positives"]["mean"] == 0.5
    assert summarise_empty(ScoreTable.of(scores[2:]), resamples=50) == {"images": 0}
    assert replace(scores[0], patches=7).share == 0
