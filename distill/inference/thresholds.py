"""From the probability of one foreground class to its mask: hysteresis thresholding (Canny, IEEE TPAMI 1986)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from distill.inference.regions import NEIGHBOURS
from distill.metrics.overlap import THRESHOLD, labels
from distill.runtime.boxes import box_around


def require_share(name: str, value: float) -> float:
    """The value, if it is above 0 and at most 1; else raises ValueError with this name."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} is {value:g}, but must be above 0 and at most 1")
    return value


@dataclass(frozen=True)
class Thresholds:
    """The two thresholds with which a student of one class is served; several classes have none.

    Attributes:
        pixel: probability from which a pixel is foreground.
        region: probability that a connected region must reach in at least one pixel, or else it is dropped; 0 if every
            region stays, as at any value up to `pixel`. A higher one loses whole regions, and no outline changes.
    """

    pixel: float = THRESHOLD
    region: float = 0.0

    def __post_init__(self) -> None:
        if self.region <= self.pixel:  # so that regions stay where `pixel` is lowered, too
            object.__setattr__(self, "region", 0.0)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Thresholds:
        """Those of a student's `config.json`; missing ones are the defaults."""
        names = {"pixel": "threshold", "region": "region_threshold"}
        return cls(**{field: float(description[name]) for field, name in names.items() if name in description})

    def entries(self) -> dict[str, float]:
        """The entries that `of` reads; the second is at least the first."""
        return {"threshold": self.pixel, "region_threshold": max(self.pixel, self.region)}

    def __str__(self) -> str:
        regions = f", regions from {self.region:g}" if self.region else ""
        return f"threshold {self.pixel:g}{regions}"

    def mask(self, probability: np.ndarray) -> np.ndarray:
        """Class numbers uint8 (H, W) of a probability (K, H, W); with several classes the most probable."""
        found = labels(probability, threshold=self.pixel)
        if len(probability) > 1 or not self.region or not found.any():
            return found
        part = box_around(found)
        numbered, count = ndimage.label(found[part], NEIGHBOURS)
        kept = np.zeros(count + 1, np.uint8)
        kept[numbered[probability[0][part] >= self.region]] = 1
        found[part] = kept.take(numbered)
        return found
