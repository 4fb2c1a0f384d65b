"""The beginning of a cache: statistics fitted on calibration images, whose own records are written at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

import cache
from cache.manifest import Manifest
from cache.shard import SIZE
from cache.spec import MASK
from distill.data.prompts import record_key
from distill.extraction.encode import encode, write_coded
from distill.extraction.task_teacher import FIDELITY
from distill.extraction.teacher_inference import FeatureExtractor, Record, batches_of, samples_of
from distill.runs.licences import licences_of_images
from distill.runs.paths import calibration_keys
from distill.runs.run import Run
from distill.runtime.progress import Progress
from distill.runtime.threads import one_thread


def is_founded(folder: Path) -> bool:
    """Whether a cache's manifest and statistics are there and whole."""
    try:
        return cache.exists(folder) and bool(cache.open(folder).codecs)
    except cache.DamagedError:
        return False


def batch_size_of(folder: Path, *, asked: int) -> int:
    """Images a forward pass: as a cache was begun with, on which its bytes depend; as asked where there is none yet."""
    try:
        return Manifest.read(folder).batch_size if cache.exists(folder) else asked
    except cache.DamagedError:
        return asked


def fitted_records(run: Run, name: str, keys: Sequence[str]) -> list[Record]:
    """The records of a teacher's calibration images, in their plain view.

    Args:
        run: whose training images they are.
        name: of the teacher.
        keys: of the images.
    """
    recipe, splits = run.recipe.teachers[name], run.splits
    own = {sample.key: record_key(recipe, sample) for sample in (*splits.train, *splits.unlabelled)}
    return [(own[key], "identity") for key in keys if key in own]


def restore_cache(run: Run, name: str, extractor: FeatureExtractor) -> None:
    """Writes a damaged manifest again, if it comes out as the shards say; the teacher looks at nothing for it."""
    with suppress(cache.DamagedError):
        found(run, name, extractor, codecs=None)


def found(run: Run, name: str, extractor: FeatureExtractor, *, codecs: dict[str, cache.Codec] | None) -> cache.Cache:
    """Writes the manifest and statistics of a teacher's cache; without codecs, as `cache.create` says.

    Raises:
        cache.DamagedError: there are no codecs, and those of the folder cannot be proved.
    """
    recipe, teacher = run.recipe.teachers[name], extractor.teacher
    return cache.create(
        run.caches[name],
        spec=teacher.spec,
        codecs=codecs,
        identity=teacher.identity,
        licence=recipe.licence or teacher.licence,
        fidelity=run.recipe.cache.fidelity,
        batch_size=extractor.size,  # as memory allowed
        views=tuple(recipe.views),
        calibration=calibration_keys(run.splits, run.recipe.cache.calibration),
        terms=licences_of_images(run),
    )


def create_cache(run: Run, name: str, extractor: FeatureExtractor) -> int:
    """Fits the codecs, writes the manifest and the calibration images' records; returns how many were looked at."""
    keys = calibration_keys(run.splits, run.recipe.cache.calibration)
    records = sorted(fitted_records(run, name, keys))
    features = look(run, name, extractor, records)
    with one_thread():
        store = found(run, name, extractor, codecs=fit(features, asked=run.recipe.cache.fidelity))
        write_seen(store, records, features)
    return len(records)


def write_seen(store: cache.Cache, records: Sequence[Record], features: dict[str, list[Tensor]]) -> None:
    """Writes the records of maps that were looked at, (n, C, h, w) a batch."""
    seen = {map_: [one for batch in batches for one in batch] for map_, batches in features.items()}
    place = {record: index for index, record in enumerate(records)}
    for shard in cache.plan(store, place):
        maps = ({map_: parts[place[record]] for map_, parts in seen.items()} for record in shard)
        write_coded(store, [encode(store, record, one) for record, one in zip(shard, maps, strict=True)])


def look(run: Run, name: str, extractor: FeatureExtractor, records: Sequence[Record]) -> dict[str, list[Tensor]]:
    """Each map of the calibration images, (n, C, h, w) a batch, in half precision.

    Batches are those of `fill`: what is coded from these maps is what a later look at the same images would give.
    """
    recipe, samples = run.recipe.teachers[name], samples_of(run, name)
    features: dict[str, list[Tensor]] = {map_: [] for map_ in extractor.teacher.spec.names}
    with Progress("calibrate", total=len(records), unit="images") as bar:
        for first in range(0, len(records), SIZE):
            shard = records[first : first + SIZE]
            for batch in batches_of(shard, samples, extractor.teacher, recipe, size=extractor.size):
                for map_, maps in extractor(batch).items():
                    features[map_].append(maps.half())
                bar.update(len(batch.records))
    return features


def fit(features: dict[str, list[Tensor]], *, asked: float) -> dict[str, cache.Codec]:
    """A codec for each map; a soft mask is cheap, and kept more faithfully than what else is asked.

    Raises:
        ValueError: a map cannot be coded; the message names it.
    """
    codecs = {}
    for name, maps in features.items():
        try:
            codecs[name] = cache.fit(maps, fidelity=max(FIDELITY, asked) if name == MASK else asked)
        except ValueError as error:  # noqa: PERF203 - a map each
            cure = "; where it is the same everywhere, its prompts or classes find nothing" if name == MASK else ""
            raise ValueError(f"no code for map {name!r}: {error}{cure}") from error
    return codecs
