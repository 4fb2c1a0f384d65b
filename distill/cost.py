"""What a teacher will cost, told before it starts: records, gigabytes, and hours from a short probe of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from distill.data.sample import Sample
from distill.job import Job
from distill.looking import Looker, Record, batches_of
from distill.progress import clock

PROBED = 4  # images that the teacher looks at
PATIENCE = 3.0  # seconds an image, from which on one image is enough to judge by
COMPRESSION = {0.8: 20.0, 0.9: 10.0, 0.95: 6.0, 1.0: 1.2}
"""Fidelity -> raw fp16 bytes over coded ones: half of what EfficientNet-B0's maps take, since others may be harder."""


def cost_of(
    job: Job,
    name: str,
    looker: Looker,
    samples: Mapping[str, Sample],
    missing: Sequence[Record],
) -> str:
    """What the records that are missing in a teacher's cache will weigh, and the time that the teacher needs for them.

    Args:
        job: whose cache it is.
        name: of the teacher.
        looker: the teacher itself, where it will look.
        samples: by the keys of the records.
        missing: the records, at least one.
    """
    recipe = job.recipe.teachers[name]
    probed = list(missing[:: max(1, len(missing) // PROBED)][:PROBED])
    seconds = 0.0
    patience = PATIENCE if job.accelerator.device.type == "cpu" else float("inf")  # a GPU wakes up slowly
    for asked in (probed[:1], probed):  # the first pass of a network is slow; if it is very slow, it is all there is
        if seconds < patience:
            began = time.monotonic()
            for batch in batches_of(asked, samples, looker.teacher, recipe, size=looker.size):
                looker(batch)
            seconds = (time.monotonic() - began) / len(asked)
    seconds *= len(missing) / job.accelerator.num_processes
    raw = len(missing) * sum(2 * entry.channels * entry.grid[0] * entry.grid[1] for entry in looker.teacher.spec.maps)
    ratio = float(np.interp(job.recipe.cache.fidelity, list(COMPRESSION), list(COMPRESSION.values())))
    return f"  about {clock(seconds)} on this machine, {weight(raw / ratio)} (raw fp16: {weight(raw)})"


def weight(size: float) -> str:
    """Bytes as one says them: `3.20 GB`, or `41.5 MB` under a tenth of one."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
