"""Regions without any object, as additional validation samples for data in which every image shows an object."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from cache.series import Box
from distill.data.augment import EMPTY_STREAM, draw_empty_box, generator_for
from distill.data.read_ahead import read_ahead
from distill.data.sample import Sample

Part = tuple[slice, slice]  # rows and columns


def empty_regions(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """A region without foreground of each image, if one is found; the same at every call. Reads every mask once."""
    regions = []
    for sample, read in zip(samples, read_ahead(samples, images=False), strict=True):
        random = generator_for(0, 0, sample.key, stream=EMPTY_STREAM)
        if box := draw_empty_box(read.read_mask(), random):
            regions.append(region_of(sample, box))
    return tuple(regions)


def region_of(sample: Sample, box: Box) -> Sample:
    """The part of a sample in a box where its mask is empty, with its own name and key."""
    (height, width), (y0, x0, y1, x1) = sample.size, box
    rows, columns = (
        slice(math.ceil(low * pixels), math.floor(high * pixels))
        for low, high, pixels in ((y0, y1, height), (x0, x1, width))
    )
    return replace(
        sample,
        stem=f"{sample.stem} (empty region)",
        key=hashlib.sha256(f"{sample.key} {rows} {columns}".encode()).hexdigest(),
        size=(rows.stop - rows.start, columns.stop - columns.start),
        read_image=partial(read_part, sample.read_image, (rows, columns)),
        read_mask=partial(read_part, sample.read_mask, (rows, columns)),
    )


def read_part(read: Callable[[], np.ndarray], part: Part) -> np.ndarray:
    """The pixels of a part of an image (H, W, 3) or a mask (H, W), uint8."""
    return np.ascontiguousarray(read()[part])
