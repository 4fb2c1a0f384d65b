"""Statistics of a difference between two arms: intervals over images and over seeds, and one test of both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distill.metrics.bootstrap import LEAST_GROUPS, count_groups, group_numbers, summary

QUANTILES = 4000  # of a t variable, over which the tail probability of a sum is averaged
ROUNDING = 1e-12  # smaller values count as 0

Interval = tuple[float, float]


def image_interval(difference: NDArray[np.float64], *, groups: Sequence[str | None], resamples: int) -> Interval | None:
    """The 95 % bootstrap interval of a mean over images, groups drawn whole; None below `LEAST_GROUPS` groups.

    Args:
        difference: Dice of an arm minus that of the control, (seeds, images).
        groups: the sequence or patient of each image; an image with None is its own group.
        resamples: number of sets drawn.
    """
    figure = summary(difference.mean(axis=0), groups=groups, resamples=resamples)
    return (figure["low"], figure["high"]) if "low" in figure else None


def t_interval(differences: Sequence[float]) -> Interval | None:
    """Student's 95 % t-interval of a mean; None for a single value, which says nothing about the spread."""
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return None
    half = float(t.ppf(0.975, count - 1)) * float(np.std(differences, ddof=1)) / count**0.5
    mean = float(np.mean(differences))
    return (mean - half, mean + half)


def crossed_p_values(dice: NDArray[np.float64], *, groups: Sequence[str | None]) -> list[float | None]:
    """The two-sided p value of the difference between each further arm and the first.

    There is one model for all arms: a score is the arm's mean, plus effects of its seed and of its group of images,
    plus a rest, each with one variance for all arms. By the table's mean squares, the difference of two arms has the
    variance a + b, with a = 2 MS_seeds / (S G) for the seeds (and the rest) and b = 2 max(0, MS_groups - MS_rest) /
    (S G) for the groups. It is tested as a sum of two independent t variables with the scales a^0.5 and b^0.5. Their
    degrees of freedom are those of the mean square for the seeds, and g - 1 for the groups, which several arms share.
    g is the effective number of equal groups, because a few large groups may hold nearly all images.

    Args:
        dice: of every arm, the control first: (arms, seeds, images).
        groups: the sequence or patient of each image; an image with None is its own group.

    Returns:
        p values, not corrected for their number; None for a single seed and below `LEAST_GROUPS` groups.
    """
    arms, seeds, count = len(dice), dice.shape[1], count_groups(groups)
    if seeds < 2 or count < LEAST_GROUPS:
        return [None] * (arms - 1)
    values = group_values(dice, groups)
    differences = values.mean(axis=(1, 2))[1:] - values[0].mean()
    values = values - values.mean(axis=0)  # an effect of a seed or group that all arms share cancels in a difference
    means = values.mean(axis=(1, 2), keepdims=True)
    of_seeds, of_groups = values.mean(axis=2, keepdims=True) - means, values.mean(axis=1, keepdims=True) - means
    rest = values - means - of_seeds - of_groups
    freedom = (arms - 1) * (seeds - 1)
    square_seeds = count * (of_seeds**2).sum() / freedom
    square_groups = seeds * (of_groups**2).sum() / ((arms - 1) * (count - 1))
    square_rest = (rest**2).sum() / (freedom * (count - 1))
    scales = [(2 * part / (seeds * count)) ** 0.5 for part in (square_seeds, max(0.0, square_groups - square_rest))]
    freedoms = (float(freedom), max(1.0, effective_groups(groups) - 1))
    return [tail(abs(one), scales=scales, freedom=freedoms) for one in differences.tolist()]


def effective_groups(groups: Sequence[str | None]) -> float:
    """The number of equally large groups whose mean has the same variance as that of these groups (Kish, 1965)."""
    sizes = np.bincount(group_numbers(groups))
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def tail(distance: float, *, scales: Sequence[float], freedom: tuple[float, float]) -> float:
    """The probability that a sum of two t variables, each with its scale and degrees of freedom, is as far from 0."""
    from scipy.stats import t

    if max(scales) <= ROUNDING:
        return float(distance <= ROUNDING)
    (first, second), quantiles = scales, (np.arange(QUANTILES) + 0.5) / QUANTILES
    shift = second * t.ppf(quantiles, freedom[1])
    if first <= ROUNDING:
        return float(2 * t.sf(distance / second, freedom[1]))
    return float((t.sf((distance - shift) / first, freedom[0]) + t.sf((distance + shift) / first, freedom[0])).mean())


def group_values(values: NDArray[np.float64], groups: Sequence[str | None]) -> NDArray[np.float64]:
    """Values (..., images) as (..., groups), with the same mean and the same variance of that mean.

    A group's value is the mean over images plus the group's deviation from it, weighted by its number of images: the
    linear part of a ratio of two means.
    """
    places = group_numbers(groups)
    sizes = np.bincount(places)
    sums = np.zeros((len(sizes), *values.shape[:-1]))
    np.add.at(sums, places, np.moveaxis(values, -1, 0))
    means = values.mean(axis=-1, keepdims=True)
    return means + (np.moveaxis(sums, 0, -1) - sizes * means) / sizes.mean()


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for their number (Holm, 1979), which controls the probability of any false verdict.

    Entries of None were not tested and do not count.
    """
    tested = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * value))
        corrected[place] = largest
    return corrected
