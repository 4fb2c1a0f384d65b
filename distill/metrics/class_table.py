"""The scores of the images of a set with several classes, in a mapped file: memory does not grow with the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from distill.metrics.confusion import Pairs
from distill.metrics.threshold_sweep import Values
from distill.runtime.mapped import mapped


class ClassTable:
    """Figures of each class of each image, in the order in which they were added, and the pixels of all.

    Attributes:
        names: of the figures.
        groups: the sequence or patient of each image, where known.
        pairs: the pixels of all images by true and predicted class.
    """

    def __init__(self, images: int, *, classes: int) -> None:
        """Takes at most so many images of so many classes, background included."""
        self.names: list[str] = []
        self.groups: list[str | None] = []
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.classes = classes
        self._images = images
        self._rows = np.zeros((0, classes - 1, 1))

    def __len__(self) -> int:
        return len(self.groups)

    def add(self, figures: Mapping[int, Mapping[str, float]], pairs: Pairs, *, group: str | None) -> None:
        """Adds an image.

        Args:
            figures: of each class that occurs, as `score_classes` gives them.
            pairs: its pixels, as `class_pairs` gives them.
            group: its sequence or patient, where known.
        """
        if figures and not self.names:
            self.names = list(next(iter(figures.values())))
            width = 1 + len(self.names)  # 1 where the class occurs
            self._rows = mapped(self._images, (self.classes - 1) * width).reshape(-1, self.classes - 1, width)
        for number, own in figures.items():
            self._rows[len(self), number - 1] = [1, *(own[name] for name in self.names)]
        self.pairs.update(pairs)
        self.groups.append(group)

    def of_class(self, number: int) -> tuple[NDArray[np.intp], Values]:
        """The images in which a class occurs, by number, and their figures (images, names)."""
        rows = self._rows[: len(self), number - 1]
        chosen = np.flatnonzero(rows[:, 0])
        return chosen, rows[chosen, 1:]
