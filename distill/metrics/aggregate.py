"""From the scores of images to those of a set: means, pooled pixels, best thresholds, sizes, empty masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.metrics.bootstrap import interval_of, resampled_means, summary
from distill.metrics.calibration import BINS, calibration_error
from distill.metrics.class_table import ClassTable
from distill.metrics.overlap import share_of
from distill.metrics.score_table import ScoreTable
from distill.metrics.threshold_sweep import Values

# Upper ends, as shares of the image's area. They are ours: round figures that cut the 1,612 masks of Kvasir-SEG and
# CVC-ClinicDB into about 27, 42 and 31 %. Limits in pixels, as in COCO, mean another size at every resolution.
SIZES = {"small": 0.05, "medium": 0.15, "large": 1.0}

Summary = dict[str, float]  # mean; low and high if there is an interval


def summarise_set(scores: ScoreTable, *, resamples: int) -> dict[str, Summary]:
    """All figures of a set of images with percentile-bootstrap 95 % intervals; images of one sequence are resampled
    together. Few images give no interval, see `distill.metrics.bootstrap.interval_of`.

    Besides the means over images of the figures of `score_everything`, there are `dice_pooled` and `iou_pooled` (pixels
    summed over images), and `dice_max_of_set` and `e_measure_max_of_set`: the largest value of the mean curve over 256
    thresholds, which PySODMetrics calls the maximum. Each resample has its own best threshold.

    Args:
        scores: of all images.
        resamples: number of sets drawn with replacement.

    Raises:
        ValueError: there are no scores.
    """
    if not len(scores):
        raise ValueError("expected the score of at least one image, got none")
    names, groups = scores.names, scores.groups
    point = _statistics(scores.rows.mean(axis=0, keepdims=True), names)
    resampled = _statistics(resampled_means(scores.rows, groups=groups, resamples=resamples), names)
    return {name: {"mean": float(point[name][0]), **interval_of(x, groups)} for name, x in resampled.items()}


def _statistics(means: Values, names: Sequence[str]) -> dict[str, Values]:
    """The figures (R,) of R sets of images by name, from the means (R, columns) of their `ScoreTable.rows`."""
    figures, rest = means[:, : len(names)], means[:, len(names) :]
    true, false, missed = rest[:, :3].T
    dice, e_measure = np.split(rest[:, 3:], 2, axis=1)
    wrong = false + missed
    return {
        **dict(zip(names, figures.T, strict=True)),
        "dice_max_of_set": dice.max(axis=1),
        "e_measure_max_of_set": e_measure.max(axis=1),
        "dice_pooled": share_of(2 * true, 2 * true + wrong),
        "iou_pooled": share_of(true, true + wrong),
    }


def size_of(share: float) -> str:
    """`small`, `medium` or `large`, for the share of the image's area that a mask covers; upper limits are included."""
    return next(name for name, limit in SIZES.items() if share <= limit)


def summarise_sizes(scores: ScoreTable, *, resamples: int) -> dict[str, dict[str, Any]]:
    """{"images": n, and each figure} by size, over images with foreground; sizes without images are left out."""
    sizes = np.array([size_of(share) if share > 0 else "" for share in scores.shares.tolist()], dtype=str)
    chosen = {name: np.flatnonzero(sizes == name) for name in SIZES}
    return {
        name: {"images": len(some), **summarise_set(scores.part(some), resamples=resamples)}
        for name, some in chosen.items()
        if len(some)
    }


def summarise_empty(scores: ScoreTable, *, resamples: int) -> dict[str, Any]:
    """False positives on frames whose mask is empty: their number per frame, and the share of frames with any.

    A false positive is a patch of connected predicted pixels; videos of colonoscopy are scored by such false alarms per
    frame (Bernal et al., 2017, "Comparative validation of polyp detection methods in video colonoscopy").

    Returns:
        {"images": n, "false_positives_per_frame": summary, "frames_with_false_positives": summary}; {"images": 0} if
        there are no such frames.
    """
    empty = np.flatnonzero(scores.shares == 0)
    if not len(empty):
        return {"images": 0}
    patches = scores.patches[empty]
    table = np.stack([patches, patches > 0], axis=1)
    groups = [scores.groups[number] for number in empty]
    means = resampled_means(table, groups=groups, resamples=resamples)
    names = ("false_positives_per_frame", "frames_with_false_positives")
    summaries = {
        name: {"mean": float(mean), **interval_of(values, groups)}
        for name, mean, values in zip(names, table.mean(axis=0), means.T, strict=True)
    }
    return {"images": len(patches), **summaries}


def summarise_classes(scores: ClassTable, *, resamples: int) -> dict[str, dict[str, Any]]:
    """{"images": n, and each figure} by class number, over the n images in whose mask or prediction the class occurs.

    Args:
        scores: of all images.
        resamples: number of sets drawn with replacement.
    """
    entries: dict[str, dict[str, Any]] = {}
    for number in range(1, scores.classes):
        chosen, figures = scores.of_class(number)
        groups = [scores.groups[image] for image in chosen]
        if len(chosen):
            entries[str(number)] = {"images": len(chosen)} | {
                name: summary(values, groups=groups, resamples=resamples)
                for name, values in zip(scores.names, np.ascontiguousarray(figures.T), strict=True)
            }
    return entries


def summarise_confidence(scores: ScoreTable, *, resamples: int) -> dict[str, Any]:
    """Calibration over the pixels of all images together; the interval is over images, by sequence if known.

    Args:
        scores: of all images.
        resamples: number of sets drawn with replacement.

    Returns:
        {"expected_calibration_error": summary, "bins": {"pixels": shares of all pixels, "said": mean
        probabilities, "true": shares of true pixels}}; lists have BINS entries, None for a bin without pixels.
    """
    table, groups = scores.reliability, scores.groups
    means = resampled_means(table, groups=groups, resamples=resamples)
    errors = calibration_error(means.reshape(-1, 3, BINS))
    sums = table.sum(axis=0).reshape(3, BINS)
    pixels, predicted, true = sums.tolist()
    return {
        "expected_calibration_error": {"mean": float(calibration_error(sums)), **interval_of(errors, groups)},
        "bins": {
            "pixels": [count / sum(pixels) for count in pixels],
            "said": [part / count if count else None for part, count in zip(predicted, pixels, strict=True)],
            "true": [part / count if count else None for part, count in zip(true, pixels, strict=True)],
        },
    }
