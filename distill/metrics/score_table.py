"""The scores of a set of images as rows of numbers in mapped files, so that memory does not grow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distill.metrics.per_image import ImageScore
from distill.metrics.threshold_sweep import Values
from distill.runtime.mapped import mapped

AT_ONCE = 1024  # rows that are copied at once


class ScoreTable:
    """The parts of a set's `ImageScore`s that are summarised, in the order in which they were added.

    Attributes:
        names: of the figures.
        groups: the sequence or patient of each image, if known.
    """

    def __init__(self, images: int) -> None:
        """Makes room for the scores of at most `images` images; files are created with the first score."""
        self.names: list[str] = []
        self.groups: list[str | None] = []
        self._images = images
        self._arrays: tuple[Values, ...] = (np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 2)))

    @classmethod
    def of(cls, scores: Sequence[ImageScore]) -> ScoreTable:
        """The table of these scores."""
        table = cls(len(scores))
        for score in scores:
            table.add(score)
        return table

    def __len__(self) -> int:
        return len(self.groups)

    def add(self, score: ImageScore) -> None:
        """Adds an image; it must have the figures of the first."""
        self.names = self.names or list(score.figures)
        number = len(self)
        figures = [score.figures[name] for name in self.names]
        rows = (
            np.concatenate([figures, score.counts[:3], score.curves.dice, score.curves.e_measure]),
            score.reliability.ravel(),
            np.array([score.share, score.patches]),
        )
        if not number:
            self._arrays = tuple(mapped(self._images, len(row)) for row in rows)
        for array, row in zip(self._arrays, rows, strict=True):
            array[number] = row
        self.groups.append(score.group)

    def part(self, chosen: NDArray[np.intp]) -> ScoreTable:
        """The table of some of the images, by number."""
        some = ScoreTable(len(chosen))
        some.names, some.groups = self.names, [self.groups[number] for number in chosen]
        some._arrays = tuple(mapped(len(chosen), array.shape[1]) for array in self._arrays)
        for start in range(0, len(chosen), AT_ONCE):
            for source, target in zip(self._arrays, some._arrays, strict=True):
                target[start : start + AT_ONCE] = source[chosen[start : start + AT_ONCE]]
        return some

    @property
    def rows(self) -> Values:
        """(images, columns): the figures, TP, FP, FN, then the curves of Dice and the E-measure at 256 thresholds."""
        return self._arrays[0][: len(self)]

    @property
    def reliability(self) -> Values:
        """(images, 3 x bins), see `distill.metrics.calibration`."""
        return self._arrays[1][: len(self)]

    @property
    def shares(self) -> Values:
        """(images,): share of each image's area that its mask covers."""
        return self._arrays[2][: len(self), 0]

    @property
    def patches(self) -> Values:
        """(images,): connected predicted patches on an empty mask; 0 for other masks."""
        return self._arrays[2][: len(self), 1]
