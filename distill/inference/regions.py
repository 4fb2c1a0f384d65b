"""Figures of the regions of a mask: area, box, connected components, expected Dice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from distill.metrics.image_score import expected_dice
from distill.runtime.boxes import box_around

NEIGHBOURS = np.ones((3, 3), int)  # pixels that touch at a corner belong together
EDGES = ("left", "top", "right", "bottom")
COLUMNS = ("class", "area", "share", "components", "largest", *EDGES, "highest", "expected_dice")


@dataclass(frozen=True)
class ClassRegions:
    """The regions of one class in one image.

    Attributes:
        label: the number of the class, from 1 on.
        area: pixels.
        share: of the image's pixels, in [0, 1].
        components: number of connected parts (pixels that touch at a corner are connected).
        largest: pixels of the largest of them.
        box: (left, top, right, bottom) around all parts, in pixels, right and bottom exclusive; None without pixels.
        highest: the highest probability of the class in the image.
        expected_dice: the image score of the class (`distill.metrics.image_score`).
    """

    label: int
    area: int
    share: float
    components: int
    largest: int
    box: tuple[int, int, int, int] | None
    highest: float
    expected_dice: float

    def row(self) -> dict[str, object]:
        """The figures by the names of `COLUMNS`; without a box its cells are empty."""
        return {
            "class": self.label,
            "area": self.area,
            "share": f"{self.share:.6f}",
            "components": self.components,
            "largest": self.largest,
            **dict(zip(EDGES, self.box or ("",) * 4, strict=True)),
            "highest": f"{self.highest:.4f}",
            "expected_dice": f"{self.expected_dice:.4f}",
        }


def measure_regions(labels: np.ndarray, probability: np.ndarray) -> list[ClassRegions]:
    """The regions of an image, an entry for each class but the background.

    Args:
        labels: class numbers uint8 (H, W), 0 is background.
        probability: float32 (K, H, W), of the foreground alone or of every class.
    """
    planes: Mapping[int, np.ndarray]
    planes = {1: probability[0]} if len(probability) == 1 else dict(enumerate(probability))
    return [_measure(labels == label, label, plane) for label, plane in planes.items() if label > 0]


def image_score(labels: np.ndarray, probability: np.ndarray) -> float:
    """The expected Dice of an image in [0, 1]; with several classes the mean over those found, or else the lowest.

    Arguments as of `measure_regions`: (H, W) and (K, H, W).
    """
    first = 0 if len(probability) == 1 else 1  # plane 0 of several is the background's
    scores = {label: expected_dice(labels == label, plane) for label, plane in enumerate(probability[first:], start=1)}
    found = [score for label, score in scores.items() if (labels == label).any()]
    return sum(found) / len(found) if found else min(scores.values())


def _measure(mask: np.ndarray, label: int, plane: np.ndarray) -> ClassRegions:
    """The regions of one class, from its mask, bool (H, W), and its probability (H, W)."""
    highest, expected = float(plane.max()), expected_dice(mask, plane)
    if not mask.any():
        return ClassRegions(label, 0, 0.0, 0, 0, None, highest, expected)
    rows, columns = box_around(mask)
    box = (columns.start, rows.start, columns.stop, rows.stop)
    numbered, components = ndimage.label(mask[rows, columns], NEIGHBOURS)
    sizes = np.bincount(numbered.ravel())[1:]
    area = int(sizes.sum())
    return ClassRegions(label, area, area / mask.size, components, int(sizes.max()), box, highest, expected)
