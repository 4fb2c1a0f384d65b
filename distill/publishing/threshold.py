"""From which probability on a pixel is foreground: chosen on validation images, for whoever uses the student.

The tables of the evaluation stay at 0.5, the convention of `distill.metrics`, so that figures compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distill.data.sample import Sample
from distill.metrics.overlap import THRESHOLD, dice
from distill.runtime.progress import progress

GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))  # 0.05 to 0.95


@dataclass(frozen=True)
class Choice:
    """A threshold, and what speaks for it.

    Attributes:
        threshold: of `GRID`.
        dice: mean Dice over the images there.
        usual: mean Dice at 0.5.
        images: how many.
    """

    threshold: float
    dice: float
    usual: float
    images: int


def choose_threshold(predictor: Callable[[np.ndarray], np.ndarray], samples: Sequence[Sample]) -> Choice:
    """The threshold of `GRID` with the best mean Dice per image; of equal ones the nearest to 0.5.

    Args:
        predictor: image uint8 (H, W, 3) -> probability (1, H, W).
        samples: validation images with masks of one class.

    Raises:
        ValueError: there are no images.
    """
    if not samples:
        raise ValueError("expected validation images to choose a threshold on, got none; give data.fractions a share")
    table = []
    for sample in progress(samples, what="choose the threshold", total=len(samples)):
        probability, mask = predictor(sample.read_image())[0], sample.read_mask() > 0
        table.append([float(dice(probability >= threshold, mask)) for threshold in GRID])
    means = dict(zip(GRID, np.mean(table, axis=0).tolist(), strict=True))
    best = max(GRID, key=lambda threshold: (round(means[threshold], 6), -abs(threshold - THRESHOLD)))
    return Choice(best, means[best], means[THRESHOLD], len(samples))
