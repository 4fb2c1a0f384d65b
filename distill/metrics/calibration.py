"""Calibration: of the pixels given a probability of 0.8, are 80 % foreground?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distill.metrics.overlap import Flags
from distill.metrics.threshold_sweep import Values

BINS = 10  # of equal width; the last one includes 1


def reliability(probability: NDArray, truth: Flags) -> Values:
    """The sums over one image from which calibration is computed.

    Args:
        probability: (H, W) in [0, 1], as the network gives it, not stretched.
        truth: bool (H, W).

    Returns:
        float64 (3, BINS): the number of pixels whose probability lies in the bin, the sum of their probabilities, and
        the number of true pixels among them.
    """
    values = np.asarray(probability, dtype=np.float64).ravel()
    bins = np.minimum((values * BINS).astype(np.intp), BINS - 1)
    weights = (None, values, truth.ravel())
    return np.stack([np.bincount(bins, weight, minlength=BINS) for weight in weights]).astype(np.float64)


def calibration_error(sums: Values) -> Values:
    """The expected calibration error (..., ) of sums (..., 3, BINS), as `reliability` gives them, in [0, 1].

    The mean over pixels of the distance between the mean probability of a pixel's bin and the share of true pixels in
    it (Guo et al., 2017, "On calibration of modern neural networks", for the probability of the foreground).
    """
    pixels, predicted, true = (sums[..., row, :] for row in range(3))
    return np.abs(predicted - true).sum(axis=-1) / pixels.sum(axis=-1)
