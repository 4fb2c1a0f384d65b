"""From which probability on a pixel is foreground: chosen on validation images, for whoever uses the student.

The tables of the evaluation stay at 0.5, the convention of `distill.metrics`, so that figures compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.metrics.overlap import THRESHOLD, dice

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


def dice_on_grid(probability: np.ndarray, mask: np.ndarray) -> list[float]:
    """Dice of a probability (H, W) against a mask of one class (H, W) at every threshold of `GRID`."""
    return [float(dice(probability >= threshold, mask > 0)) for threshold in GRID]


def choose_threshold(table: Sequence[Sequence[float]]) -> Choice:
    """The threshold of `GRID` with the best mean Dice; of equal ones the nearest to 0.5.

    `table` are the `dice_on_grid` of each image.
    """
    means = dict(zip(GRID, np.mean(table, axis=0).tolist(), strict=True))
    best = max(GRID, key=lambda threshold: (round(means[threshold], 6), -abs(threshold - THRESHOLD)))
    return Choice(best, means[best], means[THRESHOLD], len(table))
