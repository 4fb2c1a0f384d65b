"""Reading a cache: the index is in memory (about fifty bytes per record), codes are read from disk when needed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cache import native
from cache.codec import BANDS, Code, Codec
from cache.files import open_inside, read_inside
from cache.manifest import NAME, DamagedError, Manifest, codec_entry
from cache.schema import codec_file
from cache.series import WHOLE, Box, Grid
from cache.shard import PATTERN, ROW, DamagedRecordError, Record, Shard, record, row, rows, unreadable
from cache.spec import FeatureSpec

logger = logging.getLogger("bandpass")

LARGEST_CODEC = 1 << 30
"""The largest codec file in bytes; 1,280 channels of 64 x 64 cells need 28 MB."""


_LOOKED_UP_AT_ONCE = 1 << 18
"""The number of records looked up at once; it takes 100 MB."""


def exists(path: str | Path) -> bool:
    """Whether a folder holds a cache, complete or not: its manifest is written before any shard."""
    return (Path(path) / NAME).is_file()


def open(path: str | Path, *, identity: Mapping[str, Any] | None = None) -> Cache:
    """Opens a cache for reading, with the shards that exist now; open it again to see later ones.

    Args:
        path: the cache folder.
        identity: if given, the identity that the cache must have.

    Raises:
        FileNotFoundError: the folder is not a cache.
        ValueError: the manifest is damaged (a DamagedError) or of another version, or the cache was made with
            another identity.
        OSError: a shard cannot be read.
    """
    folder = Path(path)
    manifest = Manifest.read(folder)
    if identity is not None:
        manifest.check(identity, folder=folder)
    manifest.warn_of_other_versions(folder)
    return Cache(folder, manifest)


class Cache:
    """An open cache; `cache.open` makes one. Picklable: a worker process opens the folder anew."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Reads the header and index of every shard; a damaged shard or one of another cache only gives a warning."""
        self.path, self.manifest = path, manifest
        self.shards: list[Shard] = []
        for file in sorted(path.glob("shard-*.safetensors")):
            try:
                self.shards.append(_checked(file, manifest))
            except ValueError as error:  # noqa: PERF203 - one bad shard must not hide the others
                logger.warning("%s is left out: %s; cache.verify says what to extract again", file, error)
            except OSError as error:
                raise OSError(f"{file}: {unreadable(error)}") from error
        index = memoryview(b"".join(shard.index for shard in self.shards))
        self._firsts = np.cumsum([0] + [len(shard.index) // ROW for shard in self.shards])
        parts = zip(self.shards, self._firsts[:-1].tolist(), self._firsts[1:].tolist(), strict=True)
        self.shards = [replace(shard, index=index[ROW * first : ROW * last]) for shard, first, last in parts]
        self._rows = np.frombuffer(index, np.uint8).reshape(-1, ROW)
        prefix = _prefixes(self._rows)
        self._order = np.argsort(prefix, kind="stable").astype(np.uint32)
        self._sorted = prefix[self._order]
        self._tables: dict[tuple[int, str], np.ndarray] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path,)

    def __repr__(self) -> str:
        return f"Cache({str(self.path)!r}, {len(self)} records of {', '.join(self.spec.names)})"

    @property
    def spec(self) -> FeatureSpec:
        """The maps of each record."""
        return self.manifest.spec

    @property
    def identity(self) -> dict[str, Any]:
        """The origin of the maps, as plain JSON data: teacher, sha256 of its weights, preprocessing, layers."""
        return self.manifest.identity

    @property
    def licence(self) -> str:
        """The licence of the teacher's weights."""
        return self.manifest.licence

    @property
    def fidelity(self) -> float:
        """The cosine required of every shard."""
        return self.manifest.fidelity

    @property
    def views(self) -> tuple[str, ...]:
        """The views that records of this cache may have."""
        return self.manifest.views

    @property
    def batch_size(self) -> int:
        """The images per forward pass of the teacher when the cache was created."""
        return self.manifest.batch_size

    @property
    def calibration(self) -> tuple[str, ...]:
        """The keys of the images on which the codecs were fitted."""
        return self.manifest.calibration

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Raises ValueError, naming the difference, unless the cache was made with this identity."""
        self.manifest.check(identity, folder=self.path)

    @cached_property
    def codecs(self) -> dict[str, Codec]:
        """The codec of each map.

        Raises:
            DamagedError: a codec file is damaged or missing.
            OSError: it cannot be read.
        """
        native.say_how()
        return {name: read_codec(self.path, self.manifest, name) for name in self.spec.names}

    def __len__(self) -> int:
        """The number of records, an image under one view each."""
        return len(self._rows)

    def __contains__(self, wanted: object) -> bool:
        """Whether (key, view) is a record of this cache."""
        return isinstance(wanted, tuple) and self._find(wanted) is not None

    def missing(self, records: Sequence[Record]) -> list[Record]:
        """Those among (key, view) records that are not in this cache, in their order; a million take a second.

        Raises:
            ValueError: a key is not a sha256, or a view is unknown.
        """
        lacking: list[Record] = []
        for start in range(0, len(records), _LOOKED_UP_AT_ONCE):
            some = records[start : start + _LOOKED_UP_AT_ONCE]
            lacking += [some[place] for place in np.flatnonzero(~self._holds(rows(some))).tolist()]
        return lacking

    def __iter__(self) -> Iterator[Record]:
        """All (key, view) records, in ascending order of keys."""
        return (record(self._rows[i].tobytes()) for i in self._order)

    def read(self, key: str, view: str, *, map: str, bands: Sequence[str] = BANDS) -> Code:
        """The code of one map of one record, {band: bytes}; only `bands` are read.

        Raises:
            ValueError: the bytes are not those that were written.
            KeyError: the cache does not hold the record, or has no such map.
        """
        place = self._find((key, view))
        if place is None:
            raise KeyError(
                f"{self.path} holds no image {key[:12]} under view {view!r}; extract it with distill extract"
            )
        number = int(np.searchsorted(self._firsts, place, side="right")) - 1
        shard, position = self.shards[number], place - int(self._firsts[number])
        descriptor = open_inside(self.path, shard.path.name)
        try:
            return {band: self._slice(descriptor, number, f"{map}/{band}", position) for band in bands}
        except DamagedRecordError as error:
            raise ValueError(
                f"image {key[:12]} under view {view!r} is damaged in {shard.path}; distill extract with the recipe "
                f"that made it writes the shard again, cache.repair({str(self.path)!r}) removes it"
            ) from error
        finally:
            os.close(descriptor)

    def decode(
        self, key: str, view: str, *, map: str, box: Box = WHOLE, grid: Grid | None = None, band: str = "all"
    ) -> Tensor:
        """Reads a record and decodes it, see `Codec.decode`: (K, rows, columns) float32 in the coded space."""
        code = self.read(key, view, map=map, bands=(band,) if band in BANDS else BANDS)
        return self.codecs[map].decode(code, box=box, grid=grid, band=band)

    @property
    def nbytes(self) -> int:
        """The bytes of all files that make up the cache: shards with their indexes, manifest, codecs."""
        files = [NAME, *map(codec_file, self.spec.names)]
        return sum(shard.nbytes for shard in self.shards) + sum((self.path / name).stat().st_size for name in files)

    def band_bytes(self) -> dict[str, dict[str, float]]:
        """{map: {band: bytes per record}} of the codes alone."""
        return {
            name: {
                band: sum(stop - start for start, stop in (s.places[f"maps/{name}/{band}"] for s in self.shards))
                / max(1, len(self))
                for band in BANDS
            }
            for name in self.spec.names
        }

    def _holds(self, wanted: np.ndarray) -> np.ndarray:
        """Whether this cache holds each of the index rows (n, ROW), bool (n,)."""
        prefix = _prefixes(wanted)
        first, last = (np.searchsorted(self._sorted, prefix, side=side) for side in ("left", "right"))
        found = np.zeros(len(wanted), np.bool_)
        left = np.flatnonzero(first < last)
        while left.size:  # once for each record that shares a prefix, such as the views of one image
            same = (self._rows[self._order[first[left]]] == wanted[left]).all(axis=1)
            found[left[same]] = True
            first[left] += 1
            left = left[~same & (first[left] < last[left])]
        return found

    def _find(self, wanted: Record) -> int | None:
        code = np.frombuffer(row(wanted), np.uint8)
        prefix = code[:8].view(">u8")[0].astype(np.uint64)
        first = int(np.searchsorted(self._sorted, prefix))
        while first < len(self._sorted) and self._sorted[first] == prefix:
            place = int(self._order[first])
            if np.array_equal(self._rows[place], code):
                return place
            first += 1
        return None

    def _slice(self, descriptor: int, number: int, name: str, position: int) -> bytes:
        shard = self.shards[number]
        if (number, name) not in self._tables:
            if f"table/{name}" not in shard.places:
                maps, bands = ", ".join(self.spec.names), ", ".join(BANDS)
                raise KeyError(f"{self.path} holds no {name!r}; maps are {maps}, and bands {bands}")
            self._tables[number, name] = shard.table(descriptor, name)
        return shard.code(descriptor, name, position, self._tables[number, name])


def read_codec(folder: Path, manifest: Manifest, name: str) -> Codec:
    """The codec of a map; its file must be the one that the manifest names.

    Raises:
        DamagedError: the file is damaged, missing, or not of this map.
        OSError: it cannot be read.
    """
    entry = manifest.codecs[name]
    try:
        data = read_inside(folder, codec_file(name), limit=LARGEST_CODEC)
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise ValueError("its bytes are not those that the manifest names")
        codec = Codec.from_bytes(data)
        if {**entry, **codec_entry(name, codec, data)} != entry:
            raise ValueError("its numbers are not those in the manifest")
        check_codecs(FeatureSpec((manifest.spec[name],)), {name: codec})
    except (ValueError, FileNotFoundError) as error:
        raise DamagedError(
            f"{folder / codec_file(name)} is damaged or missing; distill extract with the recipe that made it writes "
            f"it again ({error})"
        ) from error
    return codec


def check_codecs(spec: FeatureSpec, codecs: Mapping[str, Codec]) -> None:
    """Raises ValueError unless the codecs are for the maps of a spec."""
    got = {name: (len(codec.mean), *codec.grid) for name, codec in codecs.items()}
    expected = {map_.name: (map_.channels, *map_.grid) for map_ in spec}
    if got != expected:
        raise ValueError(
            f"expected codecs for maps of (channels, rows, columns) {expected}, got {got}; fit them on this spec"
        )


def _prefixes(rows: np.ndarray) -> np.ndarray:
    """The first eight bytes of each row (n, ROW) of an index as a number, by which rows are looked up."""
    return np.ascontiguousarray(rows[:, :8]).view(">u8")[:, 0].astype(np.uint64)


def _checked(file: Path, manifest: Manifest) -> Shard:
    if not PATTERN.fullmatch(file.name):
        raise ValueError("its name is not that of a shard")
    shard = Shard.read(file)
    if shard.facts["manifest"] != manifest.digest:
        raise ValueError("it belongs to a cache of another identity")
    shard.check_maps(manifest.spec.names)
    return shard
