"""The scores of a set of images with several classes, in a mapped file, so that memory does not grow."""

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
        groups: the sequence or patient of each image, if known.
        pairs: the pixels of all images by true and predicted class.
    """

    def __init__(self, images: int, *, classes: int) -> None:
        """Makes room for at most `images` images with `classes` classes, background included."""
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
            group: its sequence or patient, if known.
        """
        if figures and not self.names:
            self.names = list(next(iter(figures.values())))
            width = 1 + len(self.names)  # 1 if the class occurs
            self._rows = mapped(self._images, (self.classes - 1) * width).reshape(-1, self.classes - 1, width)
        for number, own in figures.items():
            self._rows[len(self), number - 1] = [1, *(own[name] for name in self.names)]
        self.pairs.update(pairs)
        self.groups.append(group)

    def of_class(self, number: int) -> tuple[NDArray[np.intp], Values]:
        """The numbers of the images in which a class occurs, and their figures (images, names)."""
        rows = self._rows[: len(self), number - 1]
        chosen = np.flatnonzero(rows[:, 0])
        return chosen, rows[chosen, 1:]
