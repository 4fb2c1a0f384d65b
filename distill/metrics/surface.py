"""Figures of the contour: distances between two contours in pixels, surface Dice, boundary IoU.

The contour of a mask consists of its pixels with one of the four neighbours outside the mask. Everything beyond the
image's border is outside, so a mask cut by the border has contour there. Distances are Euclidean, from pixel centres.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from distill.metrics.overlap import Flags
from distill.metrics.threshold_sweep import Values

BAND = 0.02  # width of the band of boundary IoU, as a share of the image's diagonal (Cheng et al., 2021)


class Distances(NamedTuple):
    """The distance of each contour pixel of one mask from the other's contour, in pixels.

    If one mask is empty, the other's pixels have no counterpart: their distance is the image's diagonal, which no
    distance in the image exceeds. If both are empty, there are no distances.
    """

    of_prediction: Values  # (contour pixels of the prediction,)
    of_truth: Values  # (contour pixels of the mask,)


def contour(mask: Flags) -> Flags:
    """The pixels (H, W) of a mask that have one of their four neighbours outside it."""
    inner = np.pad(mask, 1)
    return mask & ~(inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:])


def contour_distances(prediction: Flags, truth: Flags) -> Distances:
    """Distances in pixels between the contours of two bool masks (H, W)."""
    of_prediction, of_truth = (np.argwhere(contour(mask)) for mask in (prediction, truth))
    diagonal = math.hypot(*truth.shape)
    return Distances(_nearest(of_prediction, of_truth, diagonal), _nearest(of_truth, of_prediction, diagonal))


def _nearest(points: np.ndarray, others: np.ndarray, none: float) -> Values:
    """The distance of each point (n, 2) to the nearest of the others (m, 2); `none` if there are no others."""
    if not (len(points) and len(others)):
        return np.full(len(points), none)
    return cKDTree(others, balanced_tree=False, compact_nodes=False).query(points)[0]


def hd95(distances: Distances) -> float:
    """The 95 % Hausdorff distance in pixels: the larger of the 95th percentiles of both directions.

    It equals MONAI 1.6.1 if neither mask is empty; else MONAI gives nan or infinity. Here it is 0 if both are empty
    and the image's diagonal if only one is, so that a mean over images stays finite. Percentiles are interpolated
    linearly; other libraries take one percentile of both directions together, which is smaller.
    """
    if not (len(distances.of_prediction) or len(distances.of_truth)):
        return 0.0
    return max(float(np.percentile(side, 95)) for side in distances if len(side))


def average_surface_distance(distances: Distances) -> float:
    """The mean over all contour pixels of both masks of the distance to the other's contour, in pixels (symmetric).

    It is 0 if both masks are empty, the image's diagonal if only one is.
    """
    every = np.concatenate(distances)
    return float(every.mean()) if len(every) else 0.0


def surface_dice(distances: Distances, *, tolerance: float = 2.0) -> float:
    """The share of all contour pixels of both masks within `tolerance` of the other's contour, in [0, 1].

    Nikolov et al., 2018 ("Deep learning to achieve clinically applicable segmentation of head and neck anatomy"),
    with contour pixels counted, not weighted by the length of their surface, which equals MONAI 1.6.1. It is 1 if both
    masks are empty (MONAI: nan), 0 if only one is.

    Args:
        distances: between the contours.
        tolerance: pixels; a distance equal to it is within.
    """
    every = np.concatenate(distances)
    empty = not (len(distances.of_prediction) and len(distances.of_truth))
    if empty:
        return float(not len(every))
    return float((every <= tolerance).mean())


def boundary_iou(prediction: Flags, truth: Flags) -> float:
    """The IoU of the inner boundary bands of two masks (Cheng et al., CVPR 2021), in [0, 1].

    A mask's band consists of its pixels within d of its contour; d is `BAND` times the diagonal, rounded, at least
    1. As in the authors' evaluation, the distance is the larger of that in rows and that in columns, and the image's
    border is contour. The IoU is 1 if both masks are empty, 0 if only one is.

    Args:
        prediction: bool (H, W).
        truth: bool (H, W).
    """
    width = max(1, round(BAND * math.hypot(*truth.shape)))
    one, other = inner_band(prediction, width), inner_band(truth, width)
    either = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / either if either else 1.0


def inner_band(mask: Flags, width: int) -> Flags:
    """The pixels (H, W) of a mask with a pixel outside it at most `width` rows and columns away."""
    side = 2 * width + 1
    sums = np.zeros((mask.shape[0] + side, mask.shape[1] + side), dtype=np.int32)
    sums[1:, 1:] = np.pad(mask, width).cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return mask & (inside < side * side)
