"""Saliency figures of a soft prediction against a mask: mean absolute error, weighted F-measure, S-measure.

Each uses the prediction stretched to 0..1 (`distill.metrics.threshold_sweep.stretch`) and equals PySODMetrics 1.6.2.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from distill.metrics.overlap import Flags
from distill.metrics.threshold_sweep import EPSILON, Values
from distill.runtime.boxes import box_around

REACH, SIGMA = 3, 5.0  # of the Gaussian window of 7 x 7 pixels in the weighted F-measure
HALVING = 5.0  # pixels after which a false positive's excess weight has halved


def mean_absolute_error(stretched: Values, truth: Flags) -> float:
    """The mean over pixels of |prediction - mask|, in [0, 1]; both (H, W), the prediction stretched to 0..1."""
    return float(np.abs(stretched - truth).mean())


def weighted_f_measure(stretched: Values, truth: Flags) -> float:
    """The weighted F-measure with beta 1 (Margolin et al., CVPR 2014), in [0, 1].

    An error outside the object counts more the further it is from it (weight 2 - 2^(-d / 5)). A miss inside the object
    counts less if its neighbours, seen through a Gaussian window, were found. Before that smoothing, a pixel outside
    takes the error of the nearest object pixel; beyond the image's border the error is 0.

    It is 0 for an empty mask, whatever the prediction, as in PySODMetrics.

    Args:
        stretched: (H, W) in 0..1.
        truth: bool (H, W).
    """
    if not truth.any():
        return 0.0
    error = np.abs(stretched - truth)
    distance, (rows, columns) = ndimage.distance_transform_edt(~truth, return_indices=True)
    box = box_around(truth, REACH)
    spread = error[rows[box], columns[box]]
    window = np.exp(-(np.arange(-REACH, REACH + 1) ** 2) / (2 * SIGMA**2))
    for axis in (0, 1):
        spread = ndimage.correlate1d(spread, window / window.sum(), axis=axis, mode="constant")
    missed = np.minimum(error[box], spread)[truth[box]]
    beside = ~truth
    false = float((error[beside] * (2 - np.exp2(-distance[beside] / HALVING))).sum())
    found = missed.size - float(missed.sum())
    recall, precision = 1 - float(missed.mean()), found / (found + false + EPSILON)
    return 2 * recall * precision / (recall + precision + EPSILON)


def s_measure(stretched: Values, truth: Flags) -> float:
    """The structure measure, half of objects and half of regions (Fan et al., ICCV 2017), in [0, 1].

    For an empty mask it is 1 minus the prediction's mean, for a full one its mean.

    Args:
        stretched: (H, W) in 0..1.
        truth: bool (H, W).
    """
    share = float(truth.mean())
    if share in (0.0, 1.0):
        mean = float(stretched.mean())
        return mean if share else 1 - mean
    objects = share * _likeness(stretched[truth]) + (1 - share) * _likeness(1 - stretched[~truth])
    return max(0.0, 0.5 * objects + 0.5 * _regions(stretched, truth))


def _likeness(values: Values) -> float:
    """The similarity to 1, in mean and uniformity, of the predictions (n,) on an object's pixels."""
    mean = float(values.mean())
    deviation = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean * mean + 1 + deviation + EPSILON)


def _regions(stretched: Values, truth: Flags) -> float:
    """Structural similarity of the four parts around the centre of the object in (H, W), weighted by their areas."""
    height, width = truth.shape
    row = int(np.round((truth.sum(axis=1) @ np.arange(height)) / truth.sum())) + 1
    column = int(np.round((truth.sum(axis=0) @ np.arange(width)) / truth.sum())) + 1
    total = 0.0
    for rows in (slice(0, row), slice(row, height)):
        for columns in (slice(0, column), slice(column, width)):
            part = truth[rows, columns]
            if part.size:
                total += part.size / truth.size * _similarity(stretched[rows, columns], part)
    return total


def _similarity(prediction: Values, truth: Flags) -> float:
    """Structural similarity of a part (h, w): luminance, contrast and structure in one fraction."""
    freedom = max(prediction.size - 1, 1)
    mean, expected = float(prediction.mean()), float(truth.mean())
    a, b = prediction - mean, truth - expected
    both = float((a * b).sum()) / freedom
    spread = (float((a * a).sum()) + float((b * b).sum())) / freedom
    above, below = 4 * mean * expected * both, (mean**2 + expected**2) * spread
    if above != 0:
        return above / (below + EPSILON)
    return 1.0 if below == 0 else 0.0
