"""The beginning of a cache: statistics fitted on calibration images, whose own records are written at once."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cache
from cache.shard import SIZE
from distill.distiller import MASK
from distill.encoding import batches_of, encode, write_coded
from distill.job import Job, calibration_keys
from distill.masks import FIDELITY
from distill.progress import Progress
from distill.recipe import TeacherRecipe


def is_founded(folder: Path) -> bool:
    """Whether a cache's manifest and statistics are there and whole."""
    try:
        return cache.exists(folder) and bool(cache.open(folder).codecs)
    except cache.DamagedError:
        return False


def create_cache(job: Job, name: str, teacher: Any) -> int:  # noqa: ANN401
    """Fits the codecs, writes the manifest and the records of the calibration images; returns how many were looked at.

    Where only the manifest was damaged, it is written again and the teacher looks at nothing.
    """
    folder, recipe = job.caches[name], job.recipe.teachers[name]
    keys = calibration_keys(job.splits, job.recipe.cache.calibration)
    create = partial(
        cache.create,
        folder,
        spec=teacher.spec,
        identity=teacher.identity,
        licence=recipe.licence or teacher.licence,
        fidelity=job.recipe.cache.fidelity,
        batch_size=recipe.batch_size,
        views=tuple(recipe.views),
        calibration=keys,
    )
    if cache.exists(folder):
        with suppress(cache.DamagedError):
            create(codecs=None)
            return 0
    features = look(job, teacher, recipe)
    store = create(codecs=fit(features, asked=job.recipe.cache.fidelity))
    seen = {name: [map_ for batch in batches for map_ in batch] for name, batches in features.items()}
    place = {(key, "identity"): index for index, key in enumerate(keys)}
    for run in cache.plan(store, place):
        maps = {name: torch.stack([parts[place[record]] for record in run]) for name, parts in seen.items()}
        write_coded(store, encode(store, run, maps))
    return len(keys)


def look(job: Job, teacher: Any, recipe: TeacherRecipe) -> dict[str, list[Tensor]]:  # noqa: ANN401
    """Each map of the calibration images in their plain view, (n, C, h, w) a batch, in half precision.

    Batches are those of `fill`: what is coded from these maps is what a later look at the same images would give.
    """
    keys = calibration_keys(job.splits, job.recipe.cache.calibration)
    samples = {sample.key: sample for sample in (*job.splits.train, *job.splits.unlabelled)}
    features: dict[str, list[Tensor]] = {name: [] for name in teacher.spec.names}
    with Progress("calibrate", total=len(keys), unit="images") as bar:
        for first in range(0, len(keys), SIZE):
            run = [(key, "identity") for key in keys[first : first + SIZE]]
            for part, pixels, valid in batches_of(run, samples, teacher, size=recipe.batch_size):
                for name, maps in teacher.forward(pixels, valid).items():
                    features[name].append(maps.half().cpu())
                bar.update(len(part))
    return features


def fit(features: dict[str, list[Tensor]], *, asked: float) -> dict[str, cache.Codec]:
    """A codec for each map; a soft mask is cheap, and kept more faithfully than what else is asked."""
    return {
        name: cache.fit(maps, fidelity=max(FIDELITY, asked) if name == MASK else asked)
        for name, maps in features.items()
    }
