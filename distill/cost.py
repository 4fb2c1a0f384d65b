"""What a teacher will cost, told before it starts: records, gigabytes, and hours from a short probe of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill.data.sample import Sample
from distill.job import Job
from distill.looking import Looker, Record, batches_of
from distill.progress import clock

PROBED = 4  # images that the teacher looks at
COMPRESSION = 6.0  # raw fp16 bytes over coded bytes at fidelity 0.95, the order of magnitude; measured ones in LOG.md


def cost_of(
    job: Job,
    name: str,
    teacher: Any,  # noqa: ANN401
    samples: Mapping[str, Sample],
    missing: Sequence[Record],
) -> Iterator[str]:
    """Images and views that are missing in a teacher's cache, their weight, and the time that the teacher needs.

    Args:
        job: whose cache it is.
        name: of the teacher.
        teacher: itself, where it will look.
        samples: by the keys of the records.
        missing: the records; those that are there already cost nothing.
    """
    recipe = job.recipe.teachers[name]
    images = len({key for key, _ in missing})
    yield f"{name}: {images} images in up to {len(recipe.views)} views, {len(missing)} records to extract"
    if not missing:
        return
    looker = Looker(teacher, size=recipe.batch_size)
    probed = list(missing[:: max(1, len(missing) // PROBED)][:PROBED])
    for batch in batches_of(probed[:1], samples, teacher, recipe, size=1):
        looker(batch)  # the first pass of a network is slow
    began = time.monotonic()
    for batch in batches_of(probed, samples, teacher, recipe, size=recipe.batch_size):
        looker(batch)
    seconds = (time.monotonic() - began) / len(probed) * len(missing) / job.accelerator.num_processes
    raw = sum(2 * entry.channels * entry.grid[0] * entry.grid[1] for entry in teacher.spec.maps)
    yield (
        f"  about {clock(seconds)} on this machine, {len(missing) * raw / COMPRESSION / 1e9:.2f} GB "
        f"(raw fp16: {len(missing) * raw / 1e9:.2f} GB)"
    )
