"""Overlap of a predicted and a true mask, one figure an image, and how sure an average over images is.

The convention, wherever the project gives a figure without another name: Dice and IoU of each image at threshold
0.5 and at the mask's own size, then averaged over images. An empty prediction of an empty mask scores 1; where one
of the two is empty and the other is not, it scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONVENTION = (
    "per image at threshold 0.5, at the mask's own size, averaged over images; "
    "an empty prediction of an empty mask scores 1"
)
CONVENTION_SEVERAL = (
    "per image, the class of highest probability, at the mask's own size, averaged over the classes but background"
    " that occur in the mask or the prediction, then over images; an image without any scores 1"
)
THRESHOLD = 0.5
IGNORED = 255  # pixels of a mask of several classes that count for nothing
RESAMPLES_AT_ONCE = 256  # bounds the memory of a bootstrap over many images

Flags = NDArray[np.bool_]


def confusion(prediction: Flags, truth: Flags) -> tuple[NDArray, NDArray, NDArray]:
    """Pixels that are true positives, false positives and false negatives.

    Args:
        prediction: bool (..., H, W).
        truth: bool, of the same shape.

    Returns:
        three int64 arrays of shape (...).

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f"expected a prediction of the mask's shape {truth.shape}, got {prediction.shape}; "
            "resize the probability to the mask, never the mask to the prediction"
        )
    both = np.count_nonzero(prediction & truth, axis=(-2, -1))
    return (
        np.asarray(both),
        np.count_nonzero(prediction, axis=(-2, -1)) - both,
        np.count_nonzero(truth, axis=(-2, -1)) - both,
    )


def dice(prediction: Flags, truth: Flags) -> NDArray:
    """2 TP / (2 TP + FP + FN) of bool masks (..., H, W), float64 (...) in [0, 1]; 1 where both are empty."""
    both, extra, missed = confusion(prediction, truth)
    return _share(2 * both, 2 * both + extra + missed)


def iou(prediction: Flags, truth: Flags) -> NDArray:
    """TP / (TP + FP + FN) of bool masks (..., H, W), float64 (...) in [0, 1]; 1 where both are empty."""
    both, extra, missed = confusion(prediction, truth)
    return _share(both, both + extra + missed)


def sensitivity(prediction: Flags, truth: Flags) -> NDArray:
    """TP / (TP + FN): the share of the true pixels that were found; 1 where there are none."""
    both, _, missed = confusion(prediction, truth)
    return _share(both, both + missed)


def specificity(prediction: Flags, truth: Flags) -> NDArray:
    """TN / (TN + FP): the share of the background that was left alone; 1 where there is no background."""
    _, extra, _ = confusion(prediction, truth)
    background = np.count_nonzero(~truth, axis=(-2, -1))
    return _share(background - extra, np.asarray(background))


def precision(prediction: Flags, truth: Flags) -> NDArray:
    """TP / (TP + FP): the share of the predicted pixels that are true; 1 where there are none."""
    both, extra, _ = confusion(prediction, truth)
    return _share(both, both + extra)


def _share(part: NDArray, whole: NDArray) -> NDArray:
    """`part / whole`, and 1 where `whole` is 0."""
    return np.divide(part, whole, out=np.ones(np.shape(whole)), where=whole > 0)


def labels(probability: NDArray, *, threshold: float = THRESHOLD) -> NDArray[np.uint8]:
    """Class numbers (H, W) of a probability (K, H, W): for K = 1 1 from `threshold` on, else the most probable."""
    if len(probability) == 1:
        return (probability[0] >= threshold).astype(np.uint8)
    return probability.argmax(axis=0).astype(np.uint8)


def overlap(predicted: NDArray, truth: NDArray, *, classes: int = 1) -> tuple[float, float]:
    """Dice and IoU of one image in the project's convention.

    Args:
        predicted: class numbers (H, W), as `labels` gives them.
        truth: the mask (H, W): 0 and 1 for `classes` 1, else 0 (background) to classes - 1, with 255 ignored.
        classes: channels of the network's output.

    Raises:
        ValueError: the shapes differ.
    """
    if classes == 1:
        return float(dice(predicted > 0, truth > 0)), float(iou(predicted > 0, truth > 0))
    counted = truth != IGNORED
    numbers = np.arange(1, classes)[:, None, None]
    found, true = (predicted == numbers) & counted, truth == numbers
    occurs = (found | true).any(axis=(1, 2))
    if not occurs.any():
        return 1.0, 1.0
    return float(dice(found, true)[occurs].mean()), float(iou(found, true)[occurs].mean())


def bootstrap(
    values: ArrayLike, *, groups: Sequence[str | None] | None = None, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of a mean over images (Efron & Tibshirani, 1993, chapter 13).

    Args:
        values: one figure an image, (n,).
        groups: the sequence or patient of each image; see `resampled_means`.
        resamples: how many sets are drawn with replacement.
        seed: of these draws; the same seed gives the same interval.

    Returns:
        its lower and upper end.

    Raises:
        ValueError: no values.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"expected one figure an image for at least one image, got shape {array.shape}")
    means = resampled_means(array[:, None], groups=groups, resamples=resamples, seed=seed)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def resampled_means(
    table: ArrayLike, *, groups: Sequence[str | None] | None = None, resamples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """The means of a bootstrap's sets of images, for many figures at once; the sets are those of `bootstrap`.

    Frames of one sequence are alike, so that drawing them one by one would take 612 frames of 29 sequences for 612
    witnesses. Where groups are known they are drawn whole (Davison & Hinkley, 1997, section 3.8), as many as there are,
    and the mean is over all images drawn. A set that is one single group says nothing of others; its images are drawn
    one by one.

    Args:
        table: a row of figures for each image, (n, k).
        groups: the sequence or patient of each image, (n,); an image of None is a group of its own, as all are where
            nothing is given.
        resamples: how many sets are drawn with replacement.
        seed: of these draws.

    Returns:
        float64 (resamples, k).

    Raises:
        ValueError: no images, or less than one resample.
    """
    rows = np.asarray(table, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0 or resamples < 1:
        raise ValueError(
            f"expected a row of figures for at least one image, and at least one resample, got shape {rows.shape} and "
            f"{resamples}"
        )
    places = group_numbers(groups if groups is not None else [None] * len(rows))
    if places.max() == 0:
        places = np.arange(len(rows))
    sizes = np.bincount(places)
    sums = np.zeros((len(sizes), rows.shape[1]))
    np.add.at(sums, places, rows)
    random = np.random.default_rng(seed)
    count, means = len(sizes), []
    for done in range(0, resamples, RESAMPLES_AT_ONCE):
        some = min(RESAMPLES_AT_ONCE, resamples - done)
        drawn = random.integers(count, size=(some, count)) + count * np.arange(some)[:, None]
        times = np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count)
        means.append(times @ sums / (times @ sizes)[:, None])
    return np.concatenate(means)


def group_numbers(groups: Sequence[str | None]) -> NDArray[np.intp]:
    """The number of each image's group, from 0 on in the order of their first images; None is a group of its own."""
    names = [(index, "") if group is None else (-1, group) for index, group in enumerate(groups)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.intp)


def count_sequences(groups: Sequence[str | None]) -> int | None:
    """How many sequences (or patients) images come from; None where no image's is known."""
    return len(set(group_numbers(groups))) if any(group is not None for group in groups) else None


def summary(
    values: ArrayLike, *, groups: Sequence[str | None] | None = None, resamples: int, seed: int = 0
) -> dict[str, float]:
    """`{"mean": m, "low": l, "high": h}` of one figure an image, with the 95 % interval of `bootstrap`."""
    low, high = bootstrap(values, groups=groups, resamples=resamples, seed=seed)
    return {"mean": float(np.mean(np.asarray(values, dtype=np.float64))), "low": low, "high": high}
