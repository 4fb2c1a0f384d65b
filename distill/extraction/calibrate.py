"""Initialising a cache: codecs fitted on calibration images, the manifest, and the records of these images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from torch import Tensor

import cache
from cache.shard import SIZE, Record
from cache.spec import MASK
from distill.extraction.encode import encode, few_images_hint, write_coded
from distill.extraction.plan import ExtractionPlan
from distill.extraction.task_teacher import FIDELITY
from distill.extraction.teacher_inference import FeatureExtractor, batches_of, rounded_to_half
from distill.runtime.progress import Progress
from distill.runtime.threads import one_thread


def restore_cache(plan: ExtractionPlan, extractor: FeatureExtractor) -> None:
    """Writes a damaged manifest again, if it comes out as the shards say; no image passes the teacher."""
    with suppress(cache.DamagedError):
        write_manifest(plan, extractor, codecs=None)


def initialise_cache(plan: ExtractionPlan, extractor: FeatureExtractor) -> int:
    """Fits the codecs, writes the manifest and the records of the calibration images; returns their number."""
    records = plan.plain_records(plan.calibration)
    features = extract_features(plan, extractor, records)
    with one_thread():
        store = write_manifest(plan, extractor, codecs=fit_codecs(features, fidelity=plan.fidelity, shells=plan.shells))
        write_records(store, records, features)
    return len(records)


def write_manifest(
    plan: ExtractionPlan, extractor: FeatureExtractor, *, codecs: dict[str, cache.Codec] | None
) -> cache.Cache:
    """Writes the manifest and statistics of a teacher's cache; without codecs, as `cache.create` describes.

    Raises:
        cache.DamagedError: no codecs are given, and those in the folder cannot be shown to be its own.
    """
    teacher = extractor.teacher
    return cache.create(
        plan.folder,
        spec=teacher.spec,
        codecs=codecs,
        identity=teacher.identity,
        licence=plan.recipe.licence or teacher.licence,
        fidelity=plan.fidelity,
        batch_size=extractor.size,  # as memory allowed
        views=tuple(plan.recipe.views),
        calibration=plan.calibration,
        terms=plan.terms,
    )


def extract_features(
    plan: ExtractionPlan, extractor: FeatureExtractor, records: Sequence[Record]
) -> dict[str, list[Tensor]]:
    """Each map of the calibration images, (n, C, h, w) per batch, as `rounded_to_half` gives it.

    Batches are those of `distill.extraction.extract.fill`, so the codes of these maps are those that extracting the
    same images later would give.
    """
    features: dict[str, list[Tensor]] = {name: [] for name in extractor.teacher.spec.names}
    with Progress("calibrate", total=len(records), unit="images") as bar:
        for first in range(0, len(records), SIZE):
            shard = records[first : first + SIZE]
            for batch in batches_of(shard, plan.read, teacher=extractor.teacher, size=extractor.size):
                for name, maps in extractor(batch).items():
                    features[name].append(rounded_to_half(maps))
                bar.update(len(batch.records))
    return features


def fit_codecs(
    features: Mapping[str, Sequence[Tensor]], *, fidelity: float, shells: bool = False
) -> dict[str, cache.Codec]:
    """A codec for each map, fitted on (n, C, h, w) per batch; a soft mask is cheap and gets at least `FIDELITY`.

    Raises:
        ValueError: a map cannot be coded; the message names it.
    """
    codecs = {}
    for name, batches in features.items():
        try:
            mask = name == MASK
            asked = max(FIDELITY, fidelity) if mask else fidelity
            codecs[name] = cache.fit(batches, fidelity=asked, shells=shells and not mask)
        except ValueError as error:  # noqa: PERF203 - a map each
            cure = "; if it is the same everywhere, its prompts or classes find nothing" if name == MASK else ""
            hint = few_images_hint(sum(len(batch) for batch in batches))
            raise ValueError(f"no code for map {name!r}: {error}{cure}{hint}") from error
    return codecs


def write_records(store: cache.Cache, records: Sequence[Record], features: Mapping[str, Sequence[Tensor]]) -> None:
    """Writes records from their maps, which come in batches (n, C, h, w) in the order of the records."""
    maps = {name: [one for batch in batches for one in batch] for name, batches in features.items()}
    place = {record: index for index, record in enumerate(records)}
    for shard in cache.plan(store, place):
        coded = [encode(store, record, {name: part[place[record]] for name, part in maps.items()}) for record in shard]
        write_coded(store, coded)
