from __future__ import annotations

import numpy as np
import pytest

from distill.comparison import HELPS, HURTS, UNDECIDED, compare_scores, markdown, plot, t_interval, verdict
from distill.evaluate import Score


def scores_of(gain: float, noise: float, *, seeds: int = 3, images: int = 60) -> dict:
    random = np.random.default_rng(0)
    base = random.uniform(0.4, 0.8, images)
    found = {}
    for arm, lift in (("alone", 0.0), ("taught", gain)):
        for seed in range(seeds):
            dice = base + lift + noise * random.standard_normal(images)
            found[arm, "unet", seed] = [Score("d", f"{i}", f"{i:03}", float(v), float(v)) for i, v in enumerate(dice)]
    return found


def compared(gain: float, noise: float, **options):
    scores = scores_of(gain, noise, **options)
    return compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=500)


def test_a_real_gain_helps_and_its_interval_holds_it():
    row = compared(0.05, 0.02).rows[1]
    assert row.verdict == HELPS
    assert row.image_interval[0] < 0.05 < row.image_interval[1] + 0.01
    assert row.difference == pytest.approx(0.05, abs=0.01)
    assert compared(-0.05, 0.02).rows[1].verdict == HURTS


def test_no_gain_is_no_evidence():
    assert compared(0.0, 0.05).rows[1].verdict == UNDECIDED


def test_one_seed_is_never_evidence():
    row = compared(0.2, 0.01, seeds=1).rows[1]
    assert row.verdict == UNDECIDED
    assert row.seed_interval is None


def test_both_intervals_must_agree():
    assert verdict((0.1, 0.2), (-0.1, 0.4)) == UNDECIDED
    assert verdict((0.1, 0.2), (0.1, 0.4)) == HELPS


def test_the_t_interval_is_student_s():
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)


def test_images_are_paired_by_key_not_by_position():
    scores = scores_of(0.05, 0.0)
    scores["taught", "unet", 1] = scores["taught", "unet", 1][::-1]
    comparison = compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=200)
    assert comparison.rows[1].image_interval == pytest.approx((0.05, 0.05), abs=1e-9)


def test_arms_that_were_scored_on_other_images_are_refused():
    scores = scores_of(0.05, 0.0)
    scores["taught", "unet", 1] = [Score("d", s.stem, f"x{s.key}", s.dice, s.iou) for s in scores["taught", "unet", 1]]
    with pytest.raises(ValueError, match="arm 'taught' was scored on other images of d"):
        compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=200)


def test_table_and_plot_show_every_arm(tmp_path):
    comparison = compared(0.05, 0.02)
    text = markdown(comparison, title="t")
    assert "| alone |" in text
    assert "helps" in text
    plot(comparison, tmp_path / "p.png", title="t")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
