"""The cost of an extraction: bytes on disk, time from a short probe of the teacher, memory for calibration."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache.axes import HELD_OUT
from cache.shard import Record
from cache.spec import FeatureSpec
from distill.extraction.cache_state import CacheState, format_bytes
from distill.extraction.plan import ExtractionPlan
from distill.extraction.teacher_inference import FeatureExtractor, batches_of
from distill.runtime.progress import clock

PROBED = 4  # images that pass the teacher
MUCH = 1_000_000_000  # bytes of memory for calibration, from which they are reported
PATIENCE = 3.0  # seconds per image on a CPU, from which one image is enough for an estimate
COMPRESSION = {0.8: 20.0, 0.9: 10.0, 0.95: 6.0, 1.0: 1.2}
"""Fidelity -> raw fp16 bytes over coded bytes: half the ratio for EfficientNet-B0's maps, as others may be harder."""


@dataclass(frozen=True)
class Cost:
    """The cost of the missing records of a cache.

    Attributes:
        seconds: with all processes at work.
        coded: bytes on disk.
        raw: bytes of the same maps in half precision.
        memory: bytes of memory for calibration; 0 if it has been done.
    """

    seconds: float
    coded: float
    raw: int
    memory: int = 0

    def __str__(self) -> str:
        coded, raw, memory = (format_bytes(size) for size in (self.coded, self.raw, self.memory))
        text = f"  about {clock(self.seconds)} on this machine, {coded} (raw fp16: {raw})"
        return f"{text}; fitting the code takes {memory} of memory" if self.memory >= MUCH else text


def estimate_cost(plan: ExtractionPlan, state: CacheState, extractor: FeatureExtractor) -> Cost:
    """The cost of the missing records, of which there is at least one; a few images pass the teacher for it."""
    spec, missing = extractor.teacher.spec, state.missing
    memory = 0 if state.initialised else memory_to_fit(len(plan.calibration), spec)
    seconds = seconds_per_image(plan, missing, extractor) * len(missing) / plan.processes
    raw = len(missing) * sum(2 * entry.channels * entry.grid[0] * entry.grid[1] for entry in spec.maps)
    ratio = float(np.interp(plan.fidelity, list(COMPRESSION), list(COMPRESSION.values())))
    return Cost(seconds, coded=raw / ratio, raw=raw, memory=memory)


def seconds_per_image(plan: ExtractionPlan, missing: Sequence[Record], extractor: FeatureExtractor) -> float:
    """Seconds to read an image and pass it through the teacher, from at most `PROBED` images."""
    probed = list(missing[:: max(1, len(missing) // PROBED)][:PROBED])
    patience = PATIENCE if plan.device.type == "cpu" else float("inf")  # a GPU wakes up slowly
    seconds = 0.0
    for some in (probed[:1], probed):  # the first pass of a network is slow; if it is very slow, it must do
        if seconds < patience:
            began = time.monotonic()
            for batch in batches_of(some, plan.read, teacher=extractor.teacher, size=extractor.size):
                extractor(batch)
            seconds = (time.monotonic() - began) / len(some)
    return seconds


def memory_to_fit(images: int, spec: FeatureSpec) -> int:
    """The bytes of memory that calibration on `images` images needs.

    It holds all their maps in half precision, and for held-out images the components and coefficients of the largest
    map in single precision.
    """
    values = [entry.channels * entry.grid[0] * entry.grid[1] for entry in spec]
    return 2 * images * sum(values) + 8 * min(HELD_OUT, max(1, images // 4)) * max(values)


def check_memory(plan: ExtractionPlan, spec: FeatureSpec) -> None:
    """Raises ValueError if calibration needs more memory than this machine has in total."""
    needed, there = memory_to_fit(len(plan.calibration), spec), memory_of_machine()
    if there is not None and needed > there:
        raise ValueError(
            f"fitting the code of teacher {plan.name!r} takes {format_bytes(needed)} of memory, but this machine has "
            f"{format_bytes(there)}; set cache.calibration below {len(plan.calibration)} images, or choose fewer or "
            f"coarser maps with teachers.{plan.name}.levels or teachers.{plan.name}.strides"
        )


def memory_of_machine() -> int | None:
    """The bytes of memory of this machine; None if unknown. Not the free memory, where cached files count as used."""
    pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in os.sysconf_names else -1
    return pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else None
