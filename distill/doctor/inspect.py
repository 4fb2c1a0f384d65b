"""Reading each image and its mask once: a thumbnail, the mask's levels, and whether an EXIF tag turns the image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distill.data.image_io import Source, as_levels, as_rgb, decode, encoded, is_turned
from distill.data.mask_classes import Reading, as_classes
from distill.data.sources.pairs import Pair
from distill.doctor.hashes import SIDE
from distill.runtime.progress import progress


@dataclass(frozen=True)
class Inspection:
    """The properties of one pair of image and mask that the checks need."""

    thumbnail: NDArray[np.uint8]  # grey (32, 32)
    levels: NDArray[np.uint32]  # pixels of each level of the mask (256,); of each class if there are several
    turned: bool  # the image has an EXIF turn that the mask does not have

    @property
    def spread(self) -> float:
        """Standard deviation of the thumbnail's grey levels: near 0 for a picture of one colour."""
        return float(self.thumbnail.std())

    def share(self, low: int, high: int = 255) -> float:
        """The share of the mask's pixels with a level from `low` to `high`, both included."""
        return float(self.levels[low : high + 1].sum() / self.levels.sum())


def inspect_all(pairs: Sequence[Pair], *, reading: Reading) -> list[Inspection]:
    """The inspections of readable pairs, in order, on several threads with progress."""
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        inspections = pool.map(partial(inspect_pair, reading=reading), pairs)
        return list(progress(inspections, what="examine", total=len(pairs)))


def inspect_pair(pair: Pair, *, reading: Reading) -> Inspection:
    """The inspection of one pair, which `distill.data.sources.pairs.examine` could read."""
    image, turns = _open(pair.image)
    mask, mask_turns = _open(pair.mask)
    grey = as_rgb(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    numbers = Image.fromarray(as_classes(mask, colours=reading.colours)) if reading.several else as_levels(mask)
    return Inspection(np.asarray(grey), np.array(numbers.histogram(), np.uint32), turns and not mask_turns)


def _open(source: Source | str) -> tuple[Image.Image, bool]:
    data = encoded(source)
    return decode(data), is_turned(data)
