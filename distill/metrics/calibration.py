"""Calibration: of the pixels given a probability of 0.8, are 80 % foreground?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distill.metrics.bootstrap import resampled_means
from distill.metrics.overlap import Flags
from distill.metrics.threshold_sweep import Values

if TYPE_CHECKING:
    from distill.metrics.per_image import ImageScore

BINS = 10  # of equal width; the last one includes 1


def reliability(probability: NDArray, truth: Flags) -> Values:
    """The sums of one image from which calibration is computed.

    Args:
        probability: (H, W) in [0, 1], as the network gives it, not stretched.
        truth: bool (H, W).

    Returns:
        float64 (3, BINS): pixels whose probability lies in the bin, the sum of their probabilities, true ones among
        them.
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


def summarise_confidence(scores: Sequence[ImageScore], *, resamples: int, seed: int = 0) -> dict[str, Any]:
    """Calibration over the pixels of all images together; the interval is over images, those of one sequence together.

    Args:
        scores: one for each image.
        resamples: how many sets of as many images are drawn with replacement.
        seed: of these draws.

    Returns:
        {"expected_calibration_error": {"mean", "low", "high"}, "bins": {"pixels": shares of all pixels, "said": mean
        probabilities, "true": shares of true pixels}}, each list of BINS entries, None in a bin without pixels.
    """
    table = np.stack([score.reliability.ravel() for score in scores])
    means = resampled_means(table, groups=[score.group for score in scores], resamples=resamples, seed=seed)
    errors = calibration_error(means.reshape(-1, 3, BINS))
    low, high = np.percentile(errors, (2.5, 97.5))
    sums = table.sum(axis=0).reshape(3, BINS)
    pixels, predicted, true = sums.tolist()
    return {
        "expected_calibration_error": {"mean": float(calibration_error(sums)), "low": float(low), "high": float(high)},
        "bins": {
            "pixels": [count / sum(pixels) for count in pixels],
            "said": [part / count if count else None for part, count in zip(predicted, pixels, strict=True)],
            "true": [part / count if count else None for part, count in zip(true, pixels, strict=True)],
        },
    }
