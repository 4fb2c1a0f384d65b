"""From the scores of images to those of a set: means, pooled pixels, best thresholds, sizes, empty masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill.metrics.bootstrap import interval_of, resampled_means, summary
from distill.metrics.calibration import BINS, calibration_error
from distill.metrics.per_image import ImageScore
from distill.metrics.threshold_sweep import Values

# Upper ends, as shares of the image's area. They are ours: round figures that cut the 1,612 masks of Kvasir-SEG and
# CVC-ClinicDB into about 27, 42 and 31 %. Limits in pixels, as in COCO, mean another size at every resolution.
SIZES = {"small": 0.05, "medium": 0.15, "large": 1.0}

Summary = dict[str, float]  # mean; low and high where there is an interval


def summarise_set(scores: Sequence[ImageScore], *, resamples: int, seed: int = 0) -> dict[str, Summary]:
    """Every figure of a set of images with its percentile-bootstrap 95 % interval; images are resampled, those of one
    sequence together. There is none of few images, see `distill.metrics.bootstrap.interval_of`.

    Beside the means over images of what `score_everything` gives there are `dice_pooled` and `iou_pooled` (pixels
    summed over images), and `dice_max_of_set` and `e_measure_max_of_set`, the largest value of the mean curve over
    256 thresholds, which is what PySODMetrics calls the maximum; the best threshold is sought anew in each resample.

    Args:
        scores: one for each image.
        resamples: how many sets of as many images are drawn with replacement.
        seed: of these draws.

    Raises:
        ValueError: there are no scores.
    """
    if not scores:
        raise ValueError("expected the score of at least one image, got none")
    names = list(scores[0].figures)
    table = np.stack([_row(score, names) for score in scores])
    point = _statistics(table.mean(axis=0, keepdims=True), names)
    groups = [score.group for score in scores]
    resampled = _statistics(resampled_means(table, groups=groups, resamples=resamples, seed=seed), names)
    return {name: {"mean": float(point[name][0]), **interval_of(x, groups)} for name, x in resampled.items()}


def _row(score: ImageScore, names: Sequence[str]) -> Values:
    """The row of an image that is averaged: its figures, TP, FP, FN, then the curves of Dice and the E-measure."""
    figures = [score.figures[name] for name in names]
    return np.concatenate([figures, score.counts[:3], score.curves.dice, score.curves.e_measure])


def _statistics(means: Values, names: Sequence[str]) -> dict[str, Values]:
    """Name -> figure (R,) of R sets of images, from the means (R, columns) of their rows."""
    figures, rest = means[:, : len(names)], means[:, len(names) :]
    true, false, missed = rest[:, :3].T
    dice, e_measure = np.split(rest[:, 3:], 2, axis=1)
    wrong = false + missed
    return {
        **dict(zip(names, figures.T, strict=True)),
        "dice_max_of_set": dice.max(axis=1),
        "e_measure_max_of_set": e_measure.max(axis=1),
        "dice_pooled": _share(2 * true, 2 * true + wrong),
        "iou_pooled": _share(true, true + wrong),
    }


def _share(part: Values, whole: Values) -> Values:
    """`part / whole`, (R,), and 1 where `whole` is 0."""
    return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)


def size_of(share: float) -> str:
    """`small`, `medium` or `large`, for the share of the image's area that a mask covers; its limit is included."""
    return next(name for name, limit in SIZES.items() if share <= limit)


def summarise_sizes(scores: Sequence[ImageScore], *, resamples: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Size -> {"images": n, and each figure} over the images whose mask is not empty; without sizes of none."""
    groups: dict[str, list[ImageScore]] = {name: [] for name in SIZES}
    for score in scores:
        if score.share > 0:
            groups[size_of(score.share)].append(score)
    return {
        name: {"images": len(group), **summarise_set(group, resamples=resamples, seed=seed)}
        for name, group in groups.items()
        if group
    }


def summarise_empty(scores: Sequence[ImageScore], *, resamples: int, seed: int = 0) -> dict[str, Any]:
    """False positives on the frames whose mask is empty: how many a frame, and the share of frames with any.

    A false positive is a patch of connected predicted pixels, as videos of colonoscopy are scored by false alarms a
    frame (Bernal et al., 2017, "Comparative validation of polyp detection methods in video colonoscopy").

    Returns:
        {"images": n, "false_positives_per_frame": summary, "frames_with_false_positives": summary}; of no such frame
        {"images": 0}.
    """
    empty = [score for score in scores if score.share == 0]
    if not empty:
        return {"images": 0}
    patches = np.array([score.patches for score in empty], dtype=np.float64)
    table = np.stack([patches, patches > 0], axis=1)
    groups = [score.group for score in empty]
    means = resampled_means(table, groups=groups, resamples=resamples, seed=seed)
    names = ("false_positives_per_frame", "frames_with_false_positives")
    summaries = {
        name: {"mean": float(mean), **interval_of(values, groups)}
        for name, mean, values in zip(names, table.mean(axis=0), means.T, strict=True)
    }
    return {"images": len(patches), **summaries}


def summarise_classes(
    scores: Sequence[Mapping[int, Mapping[str, float]]],
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Class number -> {"images": n, and each figure} over the n images in whose mask or prediction the class occurs.

    Args:
        scores: of each image, as `score_classes` gives them.
        groups: the sequence or patient of each image, where known.
        resamples: how many sets of as many images are drawn with replacement.
        seed: of these draws.
    """
    groups = groups if groups is not None else [None] * len(scores)
    numbers = sorted({number for score in scores for number in score})
    entries: dict[str, dict[str, Any]] = {}
    for number in numbers:
        some = [(score[number], group) for score, group in zip(scores, groups, strict=True) if number in score]
        drawn: dict[str, Any] = {"groups": [group for _, group in some], "resamples": resamples, "seed": seed}
        names = some[0][0]
        entries[str(number)] = {
            "images": len(some),
            **{name: summary([one[name] for one, _ in some], **drawn) for name in names},
        }
    return entries


def summarise_confidence(scores: Sequence[ImageScore], *, resamples: int, seed: int = 0) -> dict[str, Any]:
    """Calibration over the pixels of all images together; the interval is over images, those of one sequence together.

    Args:
        scores: one for each image.
        resamples: how many sets of as many images are drawn with replacement.
        seed: of these draws.

    Returns:
        {"expected_calibration_error": summary, "bins": {"pixels": shares of all pixels, "said": mean
        probabilities, "true": shares of true pixels}}, each list of BINS entries, None in a bin without pixels.
    """
    table = np.stack([score.reliability.ravel() for score in scores])
    groups = [score.group for score in scores]
    means = resampled_means(table, groups=groups, resamples=resamples, seed=seed)
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
