"""Threshold and temperature with which a student is served, from one pass over the validation images.

The tables of the evaluation stay at threshold 0.5, the convention of `distill.metrics`, so that results are comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distill.data.sample import Sample
from distill.inference.segmenter import require_probability
from distill.metrics.overlap import THRESHOLD, dice
from distill.publishing.temperature import Calibration, fit_temperature, pixels_of
from distill.runtime.progress import progress

PIXELS_OF_AN_IMAGE, PIXELS = 1 << 14, 1 << 22  # at most, for the temperature; evenly spread if there are more

GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))  # 0.05 to 0.95


@dataclass(frozen=True)
class Choice:
    """A chosen threshold, and its Dice.

    Attributes:
        threshold: of `GRID`.
        dice: mean Dice over the images at that threshold.
        usual: mean Dice at 0.5.
        images: the number of images.
    """

    threshold: float
    dice: float
    usual: float
    images: int


def dice_on_grid(probability: np.ndarray, mask: np.ndarray) -> list[float]:
    """Dice of a probability (H, W) against a mask of one class (H, W) at every threshold of `GRID`."""
    return [float(dice(probability >= threshold, mask > 0)) for threshold in GRID]


def choose_threshold(table: Sequence[Sequence[float]]) -> Choice:
    """The threshold of `GRID` with the best mean Dice; among equals, the one nearest to 0.5.

    `table` are the `dice_on_grid` of each image.
    """
    means = dict(zip(GRID, np.mean(table, axis=0).tolist(), strict=True))
    best = max(GRID, key=lambda threshold: (round(means[threshold], 6), -abs(threshold - THRESHOLD)))
    return Choice(best, means[best], means[THRESHOLD], len(table))


def calibrate(
    predictor: Callable[[np.ndarray], np.ndarray], samples: Sequence[Sample], *, classes: int
) -> tuple[Choice | None, Calibration]:
    """The threshold at temperature 1 (with one class only) and the temperature; all images have the same weight.

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
    table, pixels = [], []
    for sample in progress(samples, what="calibrate", total=len(samples)):
        probability, mask = predictor(sample.read_image()), sample.read_mask()
        require_probability(probability, (classes, *mask.shape), what=f"the student on {sample.dataset}/{sample.stem}")
        pixels.append(pixels_of(probability, mask, most=most, classes=classes))
        if classes == 1:
            table.append(dice_on_grid(probability[0], mask))
    return choose_threshold(table) if table else None, fit_temperature(pixels)
