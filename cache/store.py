"""Writing a cache: the manifest once, then the shards, each whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from cache.codec import BANDS, Codec
from cache.files import write_whole
from cache.manifest import NAME, DamagedError, Manifest, codec_entry, differences, plain, versions
from cache.reader import Cache, check_codecs, exists, open, read_codec
from cache.restoration import check_shards, codecs_in, restore_codecs
from cache.schema import LARGEST_COSINE, codec_file
from cache.shard import SIZE, Codes, Record, pack
from cache.spec import FeatureSpec

logger = logging.getLogger("bandpass")

TOLERANCE = 0.01
"""A shard is refused if its fidelity falls short of the requested one by more than this plus what chance explains.

Chance: single images differ (by 0.003 to 0.008 on endoscopy images), and a shard, like the calibration that found the
step, may hold only a few of them."""

SPREAD = 0.005
"""The least standard deviation assumed for a single image's fidelity; small calibrations underestimate it."""


def create(
    path: str | Path,
    *,
    spec: FeatureSpec,
    codecs: Mapping[str, Codec] | None,
    identity: Mapping[str, Any],
    licence: str,
    fidelity: float,
    batch_size: int,
    views: Sequence[str],
    calibration: Sequence[str],
    terms: Mapping[str, str] | None = None,
) -> Cache:
    """Writes the manifest and codecs of a new cache, or opens an existing one if it is the same.

    An existing cache keeps its codecs, batch size, licence, terms and calibration: use those of the result. A damaged
    manifest or codec file is rewritten if the result is the one that the cache was made with: the shards carry the
    manifest's digest, and the manifest those of the codecs. Call this in one process only.

    Args:
        path: the cache folder; created if needed.
        spec: the maps.
        codecs: the codec of each map; None takes the codec files in the folder, to rewrite a damaged manifest.
        identity: how the maps were made, as JSON data: teacher, sha256 of its weights, preprocessing, layers.
        licence: the licence of the teacher's weights.
        fidelity: the cosine required of every shard.
        batch_size: images per forward pass of the teacher.
        views: the views that records may have.
        calibration: the keys of the images on which the codecs were fitted.
        terms: the terms of the images, by data set.

    Raises:
        DamagedError: a damaged file cannot be rewritten from these arguments.
        ValueError: the folder holds a cache of another identity (the difference is named) or version, the codecs
            do not fit the spec, or the format does not allow an argument.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    if exists(folder):
        try:
            existing = open(folder, identity=identity)
        except DamagedError as error:
            logger.warning("%s", error)
        else:
            _check_settings(existing, spec=spec, views=views, fidelity=fidelity)
            restore_codecs(existing, codecs or {})
            return existing
    files = codecs_in(folder, spec) if codecs is None else {name: codec.to_bytes() for name, codec in codecs.items()}
    codecs = codecs or {name: Codec.from_bytes(data) for name, data in files.items()}
    check_codecs(spec, codecs)
    manifest = Manifest(
        spec=spec,
        identity=plain(identity),
        views=tuple(views),
        fidelity=fidelity,
        codecs={name: codec_entry(name, codec, files[name]) for name, codec in codecs.items()},
        calibration=tuple(calibration),
        batch_size=batch_size,
        licence=licence,
        versions=versions(),
        terms=dict(terms or {}),
        version=2 if any(codec.shells for codec in codecs.values()) else 1,
    )
    Manifest.from_data(manifest.data())  # nothing is written that could not be opened
    check_shards(folder, manifest)
    for name, data in files.items():
        write_whole(folder, codec_file(name), data)
    write_whole(folder, NAME, manifest.to_bytes())
    return open(folder)


def plan(
    cache: str | Path | Cache, keys: Iterable[str | Record], views: Sequence[str] = ()
) -> list[tuple[Record, ...]]:
    """The records that the cache lacks: new (key, view) records, sorted, in runs of at most 256, one shard each.

    The runs depend on the records alone, not on the process that takes them. Whichever runs were written before an
    extraction was killed, the rest is cut as before, because only the last run is short.

    Args:
        cache: the folder or the open cache; a folder is read afresh.
        keys: sha256 of image files, each wanted under all `views`; or (key, view) records, wanted as they are.
        views: the views wanted of every key; all that the cache was made for if empty.

    Raises:
        ValueError: a key is not a sha256, or the cache was not made for one of the views.
    """
    store = cache if isinstance(cache, Cache) else open(cache)
    each = views or store.views
    wanted = dict.fromkeys(
        record for key in keys for record in ([(key, view) for view in each] if isinstance(key, str) else [key])
    )
    for view in sorted({view for _, view in wanted} - set(store.views)):
        raise ValueError(
            f"{store.path} was made for the views {', '.join(store.views)}, not for {view!r}; extract again"
        )
    new = store.missing(sorted(wanted))
    return [tuple(new[first : first + SIZE]) for first in range(0, len(new), SIZE)]


def write_shard(
    path: str | Path | Cache, codes: Sequence[tuple[str, str, Codes]], *, fidelity: Mapping[str, float]
) -> Path:
    """Writes the codes of one run as one shard, whole or not at all; several processes may write at once.

    Args:
        path: the folder, from which unfinished files are then removed, or the open cache.
        codes: (key, view, {map: {band: bytes}}) of each record of the run, in any order.
        fidelity: for each map the cosine that these records reached, see `Codec.fidelity`.

    Raises:
        ValueError: there is no record, more than 256, or one twice; the maps, bands or views are not those of the
            cache; or the fidelity is missing, not a cosine, or below the requested one by more than 0.01 plus what
            chance explains.
        OSError: the disk is full or cannot be written.
    """
    folder, manifest = (
        (path.path, path.manifest) if isinstance(path, Cache) else (Path(path), Manifest.read(Path(path)))
    )
    names = set(manifest.spec.names)
    if not 0 < len(codes) == len({(key, view) for key, view, _ in codes}) <= SIZE:
        raise ValueError(f"a shard holds 1 to {SIZE} records, each once, got {len(codes)}; cache.plan cuts such runs")
    for key, view, maps in codes:
        if set(maps) != names or any(set(bands) != set(BANDS) for bands in maps.values()):
            got = {name: sorted(bands) for name, bands in maps.items()}
            raise ValueError(f"expected the maps {sorted(names)}, each with {BANDS}, for image {key[:12]}, got {got}")
        if view not in manifest.views:
            raise ValueError(
                f"{folder} was made for the views {', '.join(manifest.views)}, not for {view!r}; extract again"
            )
    for name in sorted(names):
        codec = path.codecs[name] if isinstance(path, Cache) else read_codec(folder, manifest, name)
        _check_fidelity(folder, codec, name, reached=fidelity.get(name), records=len(codes))
    reached = {name: float(value) for name, value in fidelity.items()}
    if reached.keys() != names or any(abs(value) > LARGEST_COSINE for value in reached.values()):
        raise ValueError(f"expected a mean cosine of each of the maps {sorted(names)}, got {reached}")
    name, data = pack(codes, manifest=manifest.digest, fidelity=reached)
    return write_whole(folder, name, data, sweeping=not isinstance(path, Cache))


def _check_fidelity(folder: Path, codec: Codec, name: str, *, reached: float | None, records: int) -> None:
    """Raises ValueError if `reached` is too low by more than TOLERANCE plus three standard errors of both means."""
    chance = 3 * max(codec.spread, SPREAD) * sqrt(1 / records + 1 / codec.held_out)
    if reached is None or not reached >= codec.asked - TOLERANCE - chance:
        told = "none" if reached is None else f"{reached:.4f}"
        raise ValueError(
            f"{records} records of map {name!r} reached fidelity {told}, but {codec.asked:g} was requested of "
            f"{folder} (chance explains {TOLERANCE + chance:.3f}): these images differ from those the codec was fitted "
            "on; extract them into a separate cache, or extract all images again with calibration images of both kinds"
        )


def _check_settings(existing: Cache, *, spec: FeatureSpec, views: Sequence[str], fidelity: float) -> None:
    old = _settings(existing.spec, existing.views, existing.fidelity)
    for place, before, now in differences(old, _settings(spec, views, fidelity)):
        raise ValueError(
            f"{existing.path} was written with {place}={before}, but {place}={now} is requested; extract into another "
            "folder"
        )


def _settings(spec: FeatureSpec, views: Sequence[str], fidelity: float) -> dict[str, Any]:
    maps = {entry["name"]: entry for entry in spec.to_json()}
    return {"spec": maps, "views": list(views), "fidelity": fidelity}
