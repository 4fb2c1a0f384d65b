"""PraNet's protocol: Dice, IoU and the E-measure of one image at each of 256 thresholds, from two histograms.

The prediction is stretched to 0..1 by its own minimum and maximum and cut into levels 0..255; at threshold t, every
pixel of level t or more is foreground. The numbers of true and false positives for all t at once are the reversed
cumulative sums of two histograms, and all figures here follow from these counts.

Figures that refer to PySODMetrics equal its version 1.6.2, also for an empty mask: there, Dice and IoU are 0 at every
threshold, even if the prediction is empty too; in `distill.metrics.overlap` they are then 1. PraNet's five test sets
have no empty masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.metrics.overlap import Flags

THRESHOLDS = 256
EPSILON = float(np.spacing(1.0))

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Figures of one image at the thresholds 0..255 of its stretched prediction; float64 (256,) each."""

    dice: Values
    iou: Values
    e_measure: Values


def stretch(probability: NDArray) -> Values:
    """The prediction (H, W) mapped to 0..1 by its own minimum and maximum, float64; a constant one is unchanged."""
    values = np.asarray(probability, dtype=np.float64)
    low, high = values.min(), values.max()
    return values if low == high else (values - low) / (high - low)


def counts_over_thresholds(stretched: Values, truth: Flags) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True and false positives at each of the 256 thresholds.

    Args:
        stretched: (H, W) in 0..1, as `stretch` gives it.
        truth: bool (H, W).

    Returns:
        two int64 arrays (256,); at threshold 0 every pixel is positive.
    """
    levels = (stretched * (THRESHOLDS - 1)).astype(np.uint8)
    every = np.bincount(levels.ravel(), minlength=THRESHOLDS)
    true = np.bincount(levels[truth], minlength=THRESHOLDS)
    from_here_on = np.cumsum(np.stack([true, every - true])[:, ::-1], axis=1)[:, ::-1]
    return from_here_on[0], from_here_on[1]


def curves(stretched: Values, truth: Flags) -> Curves:
    """Dice, IoU and E-measure at 256 thresholds, (256,) each, as PySODMetrics 1.6.2 gives them.

    Args:
        stretched: (H, W) in 0..1, as `stretch` gives it.
        truth: bool (H, W).
    """
    true, false = counts_over_thresholds(stretched, truth)
    foreground = int(np.count_nonzero(truth))
    return Curves(
        dice=2 * true / np.maximum(true + false + foreground, 1),
        iou=true / np.maximum(false + foreground, 1),
        e_measure=e_measures(true, false, foreground=foreground, pixels=truth.size),
    )


def e_measures(true: NDArray, false: NDArray, *, foreground: int, pixels: int) -> Values:
    """The enhanced-alignment measure (Fan et al., IJCAI 2018) at each threshold, (T,).

    Prediction and truth are centred on their means; a pixel's alignment 2ab / (a² + b²) enters as ((x + 1) / 2)².
    Prediction and truth are binary, so only four values occur, weighted by their numbers of pixels. The sum is divided
    by the number of pixels minus 1, as in the authors' code and in PySODMetrics, so a perfect mask scores n / (n - 1),
    slightly more than 1. For an empty mask it is the share predicted as background, for a full one as foreground.

    Args:
        true: true positives (T,).
        false: false positives (T,).
        foreground: true pixels of the mask.
        pixels: of the image.
    """
    positive = true + false
    if foreground in (0, pixels):
        agreeing = positive if foreground else pixels - positive
        return agreeing / (max(pixels - 1, 1) + EPSILON)
    found, expected = positive / pixels, foreground / pixels
    kinds = ((true, 1, 1), (false, 1, 0), (foreground - true, 0, 1), (pixels - foreground - false, 0, 0))
    total = np.zeros(np.shape(true))
    for count, prediction, label in kinds:
        a, b = prediction - found, label - expected
        total += count * (2 * a * b / (a * a + b * b + EPSILON) + 1) ** 2 / 4
    return total / (pixels - 1 + EPSILON)
