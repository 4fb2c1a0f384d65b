"""The thresholds with which a student is served, chosen on images with masks.

The tables of the evaluation stay at threshold 0.5, the convention of `distill.metrics`, so that results are comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from distill.data.sample import Sample
from distill.inference.regions import NEIGHBOURS
from distill.inference.thresholds import Thresholds
from distill.metrics.overlap import THRESHOLD, share_of
from distill.runtime.progress import progress

PIXELS = tuple(round(0.05 * step, 2) for step in range(1, 20))  # pixel thresholds that are tried: 0.05 to 0.95
REGIONS = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)  # region thresholds; 0: every region stays


@dataclass(frozen=True)
class Point:
    """A pair of thresholds, and what it gives on the images on which it was tried.

    Attributes:
        threshold: of a pixel, one of `PIXELS`.
        region_threshold: of a region, one of `REGIONS`.
        dice: mean Dice over the images; 1 for an empty mask of an image without an object.
        found: images with an object of which the mask hits at least one pixel.
        false_alarms: images without an object of which the mask is not empty.
    """

    threshold: float
    region_threshold: float
    dice: float
    found: int
    false_alarms: int


@dataclass(frozen=True)
class Choice:
    """The chosen thresholds, and what they and others give.

    Attributes:
        images: the number of images.
        shown: how many of them show an object.
        chosen: the point that was taken.
        usual: the point at 0.5, where every region stays.
        points: those of every region threshold above the chosen pixel threshold, beside the chosen one.
    """

    images: int
    shown: int
    chosen: Point
    usual: Point
    points: tuple[Point, ...]

    @property
    def thresholds(self) -> Thresholds:
        """The chosen pair."""
        return Thresholds(self.chosen.threshold, self.chosen.region_threshold)

    def record(self) -> dict[str, Any]:
        """All figures, JSON-able."""
        return asdict(self)


class Trial(NamedTuple):
    """One image at every pair of thresholds; arrays (`PIXELS`, `REGIONS`)."""

    shown: bool  # whether the image shows an object
    dice: np.ndarray
    hit: np.ndarray  # whether any pixel of the object is found
    alarm: np.ndarray  # whether anything is found


def try_all(probability: np.ndarray, mask: np.ndarray) -> Trial:
    """Tries every pair of thresholds on a probability (H, W) of a mask (H, W), both of one class."""
    object_ = mask > 0
    areas, trues = (np.zeros((len(PIXELS), len(REGIONS))) for _ in range(2))
    for row, threshold in enumerate(PIXELS):
        found = probability >= threshold
        numbered, count = ndimage.label(found, NEIGHBOURS)
        if not count:
            break
        number = numbered[found] - 1
        highest = np.zeros(count, probability.dtype)
        np.maximum.at(highest, number, probability[found])
        kept = highest[:, None] >= np.asarray(REGIONS, probability.dtype)
        areas[row] = np.bincount(number, minlength=count) @ kept
        trues[row] = np.bincount(number, weights=object_[found], minlength=count) @ kept
    size = int(object_.sum())
    return Trial(size > 0, share_of(2 * trues, areas + size), trues > 0, areas > 0)


def choose_thresholds(
    predictor: Callable[[np.ndarray], np.ndarray], samples: Sequence[Sample], *, sensitivity: float | None = None
) -> Choice:
    """The pair of thresholds with the best mean Dice among those that find enough of the images with an object.

    Among equals the pixel threshold nearest to 0.5, then the lowest region threshold.

    Args:
        predictor: image uint8 (H, W, 3) -> calibrated probability (1, H, W).
        samples: images with masks of one class; those without an object tell false alarms.
        sensitivity: the least share of images with an object of which anything must be found; None: as many as at
            0.5, where every region stays.

    Raises:
        ValueError: no pair finds so many.
    """
    trials = [
        try_all(predictor(sample.read_image())[0], sample.read_mask())
        for sample in progress(samples, what="choose thresholds", total=len(samples))
    ]
    shown = np.array([trial.shown for trial in trials])
    dice = np.mean([trial.dice for trial in trials], axis=0)
    found = sum((trial.hit for trial in trials if trial.shown), np.zeros(dice.shape, int))
    alarms = sum((trial.alarm for trial in trials if not trial.shown), np.zeros(dice.shape, int))
    usual = (PIXELS.index(THRESHOLD), 0)
    least = found[usual] if sensitivity is None else sensitivity * shown.sum() - 1e-9
    pairs = [pair for pair in np.ndindex(*dice.shape) if found[pair] >= least]
    if not pairs:
        raise ValueError(
            f"sensitivity={sensitivity:g} asks for a finding in {sensitivity:.0%} of the {shown.sum()} images with an "
            f"object, but at no thresholds are there more than {found.max()}; ask for less"
        )

    def point(pair: tuple[int, ...]) -> Point:
        row, column = pair
        return Point(PIXELS[row], REGIONS[column], float(dice[pair]), int(found[pair]), int(alarms[pair]))

    row, column = max(pairs, key=lambda one: (round(dice[one], 6), -abs(PIXELS[one[0]] - THRESHOLD), -one[1]))
    others = [point((row, other)) for other, region in enumerate(REGIONS) if region == 0 or region > PIXELS[row]]
    return Choice(len(trials), int(shown.sum()), point((row, column)), point(usual), tuple(others))
