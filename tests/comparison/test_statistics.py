"""The test behind a verdict: its limits are t-tests that everybody knows, and it keeps its level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from distill.comparison.statistics import crossed_p_values, effective_groups, group_values, holm, image_interval, tail
from distill.metrics.bootstrap import LEAST_GROUPS

ALONE = [None] * 30


def test_where_only_seeds_vary_it_is_the_paired_t_test_over_seeds():
    gains = np.array([0.02, 0.05, 0.03])
    dice = np.stack([np.full((3, 30), 0.5), 0.5 + np.repeat(gains[:, None], 30, axis=1)])
    (p_value,) = crossed_p_values(dice, groups=ALONE)
    assert p_value == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, rel=1e-6)


def test_where_only_images_vary_it_is_the_paired_t_test_over_images():
    gains = np.random.default_rng(0).normal(0.01, 0.05, 30)
    dice = np.stack([np.full((3, 30), 0.5), np.broadcast_to(0.5 + gains, (3, 30))])
    (p_value,) = crossed_p_values(dice, groups=ALONE)
    assert p_value == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, rel=1e-6)


def test_equal_arms_and_arms_that_differ_everywhere_by_the_same():
    dice = np.full((3, 2, 30), 0.5)
    dice[2] += 0.1
    assert crossed_p_values(dice, groups=ALONE) == [1.0, 0.0]


def test_a_tail_of_two_parts_is_that_of_their_sum():
    random = np.random.default_rng(0)
    drawn = 0.5 * random.standard_t(4, 400_000) + random.standard_t(29, 400_000)
    for distance in (0.5, 1.0, 2.0):
        assert tail(distance, scales=(0.5, 1.0), freedom=(4, 29)) == pytest.approx(
            np.mean(abs(drawn) > distance), rel=0.03
        )


def test_groups_count_as_often_as_they_have_images():
    values = np.random.default_rng(0).normal(size=(2, 3, 20))
    groups = ["a"] * 11 + [None] * 9
    grouped = group_values(values, groups)
    assert grouped.shape == (2, 3, 10)
    assert np.allclose(grouped.mean(axis=-1), values.mean(axis=-1))
    assert np.allclose(group_values(values, [None] * 20), values)


def test_fewer_than_ten_groups_and_a_single_seed_are_not_tested():
    dice = np.random.default_rng(0).uniform(size=(3, 2, 30))
    few = [str(number % (LEAST_GROUPS - 1)) for number in range(30)]
    assert crossed_p_values(dice, groups=few) == [None, None]
    assert image_interval(dice[1] - dice[0], groups=few, resamples=100) is None
    enough = [str(number % LEAST_GROUPS) for number in range(30)]
    assert None not in crossed_p_values(dice, groups=enough)
    assert image_interval(dice[1] - dice[0], groups=enough, resamples=100) is not None
    assert crossed_p_values(dice[:, :1], groups=ALONE) == [None, None]


def test_holm_corrects_for_what_was_tested():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([None]) == [None]


def test_six_arms_that_do_not_differ_rarely_get_a_verdict():
    random = np.random.default_rng(0)
    false = 0
    for _ in range(200):
        seeds, images, rest = (random.normal(0, scale, shape) for scale, shape in (
            (0.01, (7, 3, 1)), (0.08, (7, 1, 60)), (0.05, (7, 3, 60))))  # fmt: skip
        false += min(holm(crossed_p_values(seeds + images + rest, groups=[None] * 60))) < 0.05
    assert false <= 18  # 5 % are 10; 18 are three standard errors more


def test_a_few_large_groups_count_as_few():
    assert effective_groups([str(number % 12) for number in range(60)]) == pytest.approx(12)
    assert effective_groups(["a"] * 100 + [f"s{number // 2}" for number in range(18)]) < 1.5


def test_arms_that_do_not_differ_rarely_get_a_verdict_where_one_group_is_most_of_the_images():
    random, false = np.random.default_rng(0), 0
    sizes = [100, *[2] * 9]
    groups = [f"s{number}" for number, size in enumerate(sizes) for _ in range(size)]
    for _ in range(300):
        of_groups = np.repeat(random.normal(0, 0.06, (2, 1, len(sizes))), sizes, axis=2)
        dice = random.normal(0, 0.01, (2, 3, 1)) + of_groups + random.normal(0, 0.05, (2, 3, len(groups)))
        false += crossed_p_values(dice, groups=groups)[0] < 0.05
    assert false <= 26, "5 % are 15, 26 three standard errors more; with as many degrees of freedom as groups about 90"
