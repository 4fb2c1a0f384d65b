"""Writing a cache: the manifest once, then shards, each planned, encoded and written on its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from cache.codec import BANDS, Codec
from cache.files import write_whole
from cache.manifest import NAME, Manifest, differences, plain, versions
from cache.reader import Cache, open
from cache.shard import SIZE, Codes, Record, pack
from cache.spec import FeatureSpec

TOLERANCE = 0.01
"""A shard whose fidelity is this much less than what was asked, and not by chance, is refused.

Chance: single images differ (by 0.003 to 0.008 on endoscopy images), a shard may hold only a few of them, and so may
the calibration that found the step."""

SPREAD = 0.005
"""At least so much single images are taken to differ: a small calibration cannot tell."""


def create(
    path: str | Path,
    *,
    spec: FeatureSpec,
    codecs: Mapping[str, Codec],
    identity: Mapping[str, Any],
    licence: str,
    fidelity: float,
    batch_size: int,
    views: Sequence[str],
    calibration: Sequence[str],
) -> Cache:
    """Write the manifest and statistics of a new cache, or open the one that is there if it is the same.

    An existing cache keeps its codecs and batch size: use those of the result. Call it on one process only.

    Args:
        path: the cache folder; made if need be.
        spec: the maps.
        codecs: the codec of each map.
        identity: who looked and how, as JSON data: teacher, sha256 of its weights, preprocessing, layers.
        licence: the licence of the teacher's weights.
        fidelity: the cosine asked of every shard.
        batch_size: images a forward pass of the teacher.
        views: the views that records may have.
        calibration: the keys of the images on which the codecs were fitted.

    Raises:
        ValueError: the folder holds a cache of another identity (the difference is named) or a damaged one, or the
            codecs do not fit the spec.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / NAME).exists():
        existing = open(folder, identity=identity)
        old, new = (
            _settings(*facts) for facts in ((existing.spec, existing.views, existing.fidelity), (spec, views, fidelity))
        )
        for place, before, now in differences(old, new):
            raise ValueError(
                f"{folder} was written with {place}={before}, but {place}={now} is asked; extract into another folder"
            )
        return existing
    _check_codecs(spec, codecs)
    entries = {}
    for name, codec in codecs.items():
        data = codec.to_bytes()
        file = write_whole(folder, f"codec-{name}.safetensors", data)
        entries[name] = {
            "file": file.name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "entropy": codec.entropy,
            "spread": codec.spread,
            "held_out": codec.held_out,
        }
    manifest = Manifest(
        spec=spec,
        identity=plain(identity),
        views=tuple(views),
        fidelity=fidelity,
        codecs=entries,
        calibration=tuple(calibration),
        batch_size=batch_size,
        licence=licence,
        versions=versions(),
    )
    write_whole(folder, NAME, manifest.to_bytes())
    return open(folder)


def plan(
    cache: str | Path | Cache, keys: Iterable[str | Record], views: Sequence[str] = ()
) -> list[tuple[Record, ...]]:
    """The work that is left: new (key, view) records, sorted, in runs of at most 256, one shard each.

    The runs depend on the records alone, not on who takes them. Whichever runs were written before a kill, the rest
    is cut as before, for only the last run is short.

    Args:
        cache: the folder or the open cache; a folder is read afresh.
        keys: sha256 of image files, each wanted under all `views`; or (key, view) records, wanted as they are.
        views: the views wanted of every key.

    Raises:
        ValueError: a key is not a sha256, or the cache was not made for one of the views.
    """
    store = cache if isinstance(cache, Cache) else open(cache)
    wanted = {record for key in keys for record in ([(key, view) for view in views] if isinstance(key, str) else [key])}
    for view in sorted({view for _, view in wanted} - set(store.views)):
        raise ValueError(
            f"{store.path} was made for the views {', '.join(store.views)}, not for {view!r}; extract anew"
        )
    new = sorted(record for record in wanted if record not in store)
    return [tuple(new[first : first + SIZE]) for first in range(0, len(new), SIZE)]


def write_shard(
    path: str | Path | Cache, codes: Sequence[tuple[str, str, Codes]], *, fidelity: Mapping[str, float]
) -> Path:
    """Write the codes of one run as one shard, whole or not at all; several processes may write at once.

    Args:
        path: the folder or the open cache.
        codes: (key, view, {map: {band: bytes}}) of each record of the run, in any order.
        fidelity: for each map the cosine that these records reached, see `Codec.fidelity`.

    Raises:
        ValueError: the maps or bands are not those of the cache, or the fidelity fell 0.01 under what was asked
            by more than chance.
        OSError: the disk is full or cannot be written.
    """
    folder, manifest = (
        (path.path, path.manifest) if isinstance(path, Cache) else (Path(path), Manifest.read(Path(path)))
    )
    names = set(manifest.spec.names)
    for key, view, maps in codes:
        if set(maps) != names or any(set(bands) != set(BANDS) for bands in maps.values()):
            got = {name: sorted(bands) for name, bands in maps.items()}
            raise ValueError(f"expected the maps {sorted(names)}, each with {BANDS}, for image {key[:12]}, got {got}")
        if view not in manifest.views:
            raise ValueError(
                f"{folder} was made for the views {', '.join(manifest.views)}, not for {view!r}; extract anew"
            )
    for name in sorted(names):
        _check_fidelity(folder, manifest, name, reached=fidelity.get(name), records=len(codes))
    assert len(codes) <= SIZE, f"a shard holds at most {SIZE} records"
    name, data = pack(codes, manifest=manifest.digest, fidelity=fidelity)
    return write_whole(folder, name, data)


def _check_fidelity(folder: Path, manifest: Manifest, name: str, *, reached: float | None, records: int) -> None:
    """Refuse what is worse than asked by more than TOLERANCE and three standard errors of both means."""
    codec = manifest.codecs[name]
    chance = 3 * max(codec["spread"], SPREAD) * sqrt(1 / records + 1 / codec["held_out"])
    if reached is None or not reached >= manifest.fidelity - TOLERANCE - chance:
        told = "none" if reached is None else f"{reached:.4f}"
        raise ValueError(
            f"{records} records of map {name!r} reached fidelity {told}, but {manifest.fidelity} was asked of "
            f"{folder} (chance explains {TOLERANCE + chance:.3f}): these images differ from those the codec was fitted "
            "on; extract them into a cache of their own, or all of them anew with calibration images of both kinds"
        )


def _settings(spec: FeatureSpec, views: Sequence[str], fidelity: float) -> dict[str, Any]:
    maps = {entry["name"]: entry for entry in spec.to_json()}
    return {"spec": maps, "views": list(views), "fidelity": fidelity}


def _check_codecs(spec: FeatureSpec, codecs: Mapping[str, Codec]) -> None:
    got = {name: (len(codec.mean), *codec.grid) for name, codec in codecs.items()}
    expected = {map_.name: (map_.channels, *map_.grid) for map_ in spec}
    if got != expected:
        raise ValueError(
            f"expected codecs for maps of (channels, rows, columns) {expected}, got {got}; fit them on this spec"
        )
