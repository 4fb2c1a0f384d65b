"""The temperature of a published student: one number that divides its logits, so that the probability is calibrated.

It minimises the negative log-likelihood of the pixels of validation images (Guo et al., 2017, "On calibration of modern
neural networks", ICML). Thresholds are chosen afterwards, of the calibrated probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from distill.data.sample import Sample
from distill.inference.segmenter import require_probability
from distill.metrics.calibration import calibration_error, reliability
from distill.metrics.overlap import IGNORED
from distill.runtime.progress import progress

SMALLEST, LARGEST = 0.1, 10.0  # bounds of the search: a network without any error would have 0
PIXELS_OF_AN_IMAGE, PIXELS = 1 << 14, 1 << 22  # at most, for the temperature; evenly spread if there are more
TINY = 1e-7  # the least probability: float32 has none nearer to 1 than 1 - TINY


@dataclass(frozen=True)
class Calibration:
    """A temperature, and its effect on the images on which it was fitted.

    Attributes:
        temperature: of the published student; 1 leaves the probability as trained.
        nll: mean negative log-likelihood of a pixel, in nats.
        nll_before: the same at temperature 1.
        error: expected calibration error of the foreground probability over these pixels.
        error_before: the same at temperature 1.
        images: the number of images.
    """

    temperature: float
    nll: float
    nll_before: float
    error: float
    error_before: float
    images: int


def find_temperature(
    predictor: Callable[[np.ndarray], np.ndarray], samples: Sequence[Sample], *, classes: int
) -> Calibration:
    """The temperature of a student, from one pass over images; all images have the same weight.

    Args:
        predictor: image uint8 (H, W, 3) -> probability (K, H, W) at temperature 1.
        samples: validation images with masks.
        classes: K.

    Raises:
        ValueError: there are no images, or the predictor's output is not a probability.
    """
    if not samples:
        raise ValueError("expected validation images to calibrate on, got none; give them a share in data.fractions")
    most = max(1, min(PIXELS_OF_AN_IMAGE, PIXELS // len(samples)))
    pixels = []
    for sample in progress(samples, what="calibrate", total=len(samples)):
        probability, mask = predictor(sample.read_image()), sample.read_mask()
        require_probability(probability, (classes, *mask.shape), what=f"the student on {sample.dataset}/{sample.stem}")
        pixels.append(pixels_of(probability, mask, most=most, classes=classes))
    return fit_temperature(pixels)


def fit_temperature(pixels: Sequence[tuple[np.ndarray, np.ndarray]]) -> Calibration:
    """The temperature with the least mean negative log-likelihood; `pixels` are the `pixels_of` each image, (n, K) and
    (n,).
    """
    logs, truth = (np.concatenate(some) for some in zip(*pixels, strict=True))
    if not len(truth):  # of several classes, if all pixels are ignored
        return Calibration(1.0, 0.0, 0.0, 0.0, 0.0, len(pixels))
    best = round(best_temperature(logs, truth), 4)
    after, before = (
        (nll(logs, truth, t), float(calibration_error(reliability(1 - tempered(logs, t)[:, 0], truth > 0))))
        for t in (best, 1.0)
    )
    return Calibration(best, after[0], before[0], after[1], before[1], len(pixels))


def pixels_of(probability: np.ndarray, mask: np.ndarray, *, most: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities float32 (n, max(K, 2)) and class numbers (n,) of at most `most` pixels of an image."""
    if classes == 1:
        probability, mask = np.concatenate([1 - probability, probability]), (mask > 0).astype(np.uint8)
    known = np.flatnonzero(mask.ravel() != IGNORED) if classes > 1 else np.arange(mask.size)
    chosen = known[np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(int)]
    found = probability.reshape(len(probability), -1)[:, chosen].T
    return np.log(found.clip(TINY, 1)).astype(np.float32), mask.ravel()[chosen]


def best_temperature(logs: np.ndarray, truth: np.ndarray) -> float:
    """The temperature between `SMALLEST` and `LARGEST` with the least `nll` of `logs` (n, K) and `truth` (n,)."""
    bounds = (math.log(SMALLEST), math.log(LARGEST))
    found = minimize_scalar(lambda log: nll(logs, truth, math.exp(log)), bounds=bounds, method="bounded")
    return math.exp(found.x)


def is_at_bound(temperature: float) -> bool:
    """Whether a fit ended at a bound of the search; the best temperature may then lie beyond it."""
    return not 1.001 * SMALLEST < temperature < LARGEST / 1.001


def tempered(logs: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, K) of log-probabilities (n, K) at a temperature."""
    scaled = np.exp((logs - logs.max(axis=1, keepdims=True)) / temperature)
    return scaled / scaled.sum(axis=1, keepdims=True)


def nll(logs: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """The mean negative log-likelihood of class numbers (n,) under log-probabilities (n, K) at a temperature."""
    scaled = (logs - logs.max(axis=1, keepdims=True)) / temperature
    own = np.take_along_axis(scaled, truth[:, None].astype(np.intp), axis=1)[:, 0]
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - own, dtype=np.float64))
