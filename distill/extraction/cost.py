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
MUCH = 1_000_000_000  # bytes of memory for calibration, from which on they are reported
PATIENCE = 3.0  # seconds an image on a CPU, from which on one image is enough to judge by
COMPRESSION = {0.8: 20.0, 0.9: 10.0, 0.95: 6.0, 1.0: 1.2}
"""Fidelity -> raw fp16 bytes over coded ones: half of what EfficientNet-B0's maps take, since others may be harder."""


@dataclass(frozen=True)
class Cost:
    """The cost of the missing records of a cache.

    Attributes:
        seconds: of all processes together at work.
        coded: bytes on disk.
        raw: bytes of the same maps in half precision.
        memory: bytes that calibration takes; 0 where it has been done.
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
    """The cost of the records that are missing, of which there is at least one; some images pass the teacher for it."""
    spec, missing = extractor.teacher.spec, state.missing
    memory = 0 if state.initialised else memory_to_fit(len(plan.calibration), spec)
    seconds = seconds_per_image(plan, missing, extractor) * len(missing) / plan.processes
    raw = len(missing) * sum(2 * entry.channels * entry.grid[0] * entry.grid[1] for entry in spec.maps)
    ratio = float(np.interp(plan.fidelity, list(COMPRESSION), list(COMPRESSION.values())))
    return Cost(seconds, coded=raw / ratio, raw=raw, memory=memory)


def seconds_per_image(plan: ExtractionPlan, missing: Sequence[Record], extractor: FeatureExtractor) -> float:
    """Seconds that an image takes to read and to pass the teacher, from `PROBED` of them or fewer."""
    probed = list(missing[:: max(1, len(missing) // PROBED)][:PROBED])
    patience = PATIENCE if plan.device.type == "cpu" else float("inf")  # a GPU wakes up slowly
    seconds = 0.0
    for some in (probed[:1], probed):  # the first pass of a network is slow; if it is very slow, it is all there is
        if seconds < patience:
            began = time.monotonic()
            for batch in batches_of(some, plan.read, teacher=extractor.teacher, size=extractor.size):
                extractor(batch)
            seconds = (time.monotonic() - began) / len(some)
    return seconds


def memory_to_fit(images: int, spec: FeatureSpec) -> int:
    """The bytes of memory that calibration on so many images needs.

    All their maps wait in half precision, and of those that are held out of the largest map, components and
    coefficients in single precision.
    """
    values = [entry.channels * entry.grid[0] * entry.grid[1] for entry in spec]
    return 2 * images * sum(values) + 8 * min(HELD_OUT, max(1, images // 4)) * max(values)


def check_memory(plan: ExtractionPlan, spec: FeatureSpec) -> None:
    """Raises ValueError where calibration needs more memory than this machine has at all."""
    needed, there = memory_to_fit(len(plan.calibration), spec), memory_of_machine()
    if there is not None and needed > there:
        raise ValueError(
            f"fitting the code of teacher {plan.name!r} takes {format_bytes(needed)} of memory, but this machine has "
            f"{format_bytes(there)}; set cache.calibration below {len(plan.calibration)} images, or choose fewer or "
            f"coarser maps with teachers.{plan.name}.levels or teachers.{plan.name}.strides"
        )


def memory_of_machine() -> int | None:
    """Bytes; None where the system does not say. Free memory is not asked for: cached files count as used."""
    pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in os.sysconf_names else -1
    return pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else None
