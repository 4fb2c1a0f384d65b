"""What a teacher will cost, told before it starts: records, gigabytes, and hours from a short probe of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

import numpy as np

from cache.calibration import HELD_OUT
from cache.spec import FeatureSpec
from distill.data.sample import Sample
from distill.extraction.calibrate import is_founded
from distill.extraction.teacher_inference import FeatureExtractor, Record, batches_of
from distill.runs.paths import calibration_keys
from distill.runs.run import Run
from distill.runtime.progress import clock

PROBED = 4  # images that the teacher looks at
MUCH = 1_000_000_000  # bytes of memory, from which on what calibration takes is told
PATIENCE = 3.0  # seconds an image, from which on one image is enough to judge by
COMPRESSION = {0.8: 20.0, 0.9: 10.0, 0.95: 6.0, 1.0: 1.2}
"""Fidelity -> raw fp16 bytes over coded ones: half of what EfficientNet-B0's maps take, since others may be harder."""


def cost_of(
    run: Run,
    name: str,
    extractor: FeatureExtractor,
    samples: Mapping[str, Sample],
    missing: Sequence[Record],
) -> str:
    """What the missing records of a teacher's cache will weigh, the time that the teacher needs, and much memory.

    Args:
        run: whose cache it is.
        name: of the teacher.
        extractor: the teacher itself, where it will look.
        samples: by the keys of the records.
        missing: the records, at least one.
    """
    recipe = run.recipe.teachers[name]
    probed = list(missing[:: max(1, len(missing) // PROBED)][:PROBED])
    seconds = 0.0
    patience = PATIENCE if run.accelerator.device.type == "cpu" else float("inf")  # a GPU wakes up slowly
    for asked in (probed[:1], probed):  # the first pass of a network is slow; if it is very slow, it is all there is
        if seconds < patience:
            began = time.monotonic()
            for batch in batches_of(asked, samples, extractor.teacher, recipe, size=extractor.size):
                extractor(batch)
            seconds = (time.monotonic() - began) / len(asked)
    seconds *= len(missing) / run.accelerator.num_processes
    raw = len(missing) * sum(
        2 * entry.channels * entry.grid[0] * entry.grid[1] for entry in extractor.teacher.spec.maps
    )
    ratio = float(np.interp(run.recipe.cache.fidelity, list(COMPRESSION), list(COMPRESSION.values())))
    told = f"  about {clock(seconds)} on this machine, {weight(raw / ratio)} (raw fp16: {weight(raw)})"
    memory = 0 if is_founded(run.caches[name]) else memory_to_fit(run, extractor.teacher.spec)
    return f"{told}; fitting the code takes {weight(memory)} of memory" if memory >= MUCH else told


def memory_to_fit(run: Run, spec: FeatureSpec) -> int:
    """The bytes of memory that calibration needs.

    All maps of its images wait in half precision, and of those that are held out of the largest map, components and
    coefficients in single precision.
    """
    images = len(calibration_keys(run.splits, run.recipe.cache.calibration))
    values = [entry.channels * entry.grid[0] * entry.grid[1] for entry in spec]
    return 2 * images * sum(values) + 8 * min(HELD_OUT, max(1, images // 4)) * max(values)


def check_memory(run: Run, name: str, spec: FeatureSpec) -> None:
    """Raises ValueError where calibration needs more memory than this machine has at all."""
    needed, there = memory_to_fit(run, spec), memory_of_machine()
    if there is not None and needed > there:
        raise ValueError(
            f"fitting the code of teacher {name!r} takes {weight(needed)} of memory, but this machine has "
            f"{weight(there)}; set cache.calibration below {run.recipe.cache.calibration} images, or choose fewer or "
            f"coarser maps with teachers.{name}.levels or teachers.{name}.strides"
        )


def memory_of_machine() -> int | None:
    """Bytes; None where the system does not say. What is free is not asked: files in memory would count as used."""
    pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in os.sysconf_names else -1
    return pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else None


def weight(size: float) -> str:
    """Bytes as one says them: `3.20 GB`, or `41.5 MB` under a tenth of one."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
