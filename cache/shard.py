"""One shard: up to 256 records in one safetensors file, with the first half of its sha256 in the file name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from cache.files import open_inside
from cache.schema import TensorPlace, check_shard_facts, parse, parse_header
from cache.spec import BANDS, VIEWS

SIZE = 256
"""Records per shard; the unit of work of an extraction."""

Record = tuple[str, str]
"""(sha256 of the image file as 64 hexadecimal digits, view)."""

Codes = Mapping[str, Mapping[str, bytes]]
"""{map: {band: bytes}} of one record."""

PATTERN = re.compile(r"shard-([0-9a-f]{12})-([0-9a-f]{32})\.safetensors")
ROW = 33
"""Bytes of a record in the index: the 32 of its key, then the position of its view in VIEWS."""

_VIEW_NUMBERS = {view: number for number, view in enumerate(VIEWS)}
_KEY = "bandpass-shard"
_FORMAT = {"format": "bandpass-shard", "version": 1}
_HEAD = 1 << 15  # one read of this size nearly always covers header, tables and index
_LARGEST_HEADER = 1 << 24


def row(record: Record) -> bytes:
    """A record as the bytes of its index row.

    Raises:
        ValueError: the key is not 64 lower-case hexadecimal digits, or the view is unknown.
    """
    key, view = record
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise ValueError(
            f"expected a key of 64 lower-case hexadecimal digits (the sha256 of an image file), got {key!r}"
        )
    if view not in VIEWS:
        raise ValueError(f"unknown view {view!r}; choose from {', '.join(VIEWS)}")
    return bytes.fromhex(key) + bytes([VIEWS.index(view)])


def rows(records: Sequence[Record]) -> np.ndarray:
    """Records as rows of the index, uint8 (n, ROW); errors as `row`."""
    keys, views = "".join(key for key, _ in records), [_VIEW_NUMBERS.get(view, -1) for _, view in records]
    if -1 in views or any(len(key) != 64 for key, _ in records) or not re.fullmatch("[0-9a-f]*", keys):
        for one in records:
            row(one)  # raises for the first that is wrong
    table = np.empty((len(records), ROW), np.uint8)
    table[:, : ROW - 1] = np.frombuffer(bytes.fromhex(keys), np.uint8).reshape(-1, ROW - 1)
    table[:, ROW - 1] = views
    return table


def record(row: bytes) -> Record:
    """The inverse of `row`."""
    return row[:32].hex(), VIEWS[row[32]]


def pack(codes: Sequence[tuple[str, str, Codes]], *, manifest: str, fidelity: Mapping[str, float]) -> tuple[str, bytes]:
    """File name and bytes of a shard.

    Args:
        codes: (key, view, {map: {band: bytes}}) of each record, in any order.
        manifest: the digest of the cache's manifest.
        fidelity: the cosine that each map of these records reached.
    """
    rows = {row((key, view)): maps for key, view, maps in codes}
    assert len(rows) == len(codes) > 0, "a shard holds at least one record, and each only once"
    ordered = sorted(rows)
    tensors = {"index": np.frombuffer(b"".join(ordered), np.uint8).reshape(-1, ROW)}
    for name, bands in rows[ordered[0]].items():
        for band in bands:
            parts = [rows[r][name][band] for r in ordered]
            ends = np.cumsum([len(part) for part in parts], dtype=np.uint64)
            assert ends[-1] < 2**32, "a band of a shard is smaller than 4 GiB"
            sums = [zlib.crc32(r + part) for r, part in zip(ordered, parts, strict=True)]
            tensors[f"maps/{name}/{band}"] = np.frombuffer(b"".join(parts), np.uint8)
            tensors[f"table/{name}/{band}"] = np.stack([ends, sums], axis=1).astype("<u4")
    reached = {name: round(value, 6) for name, value in fidelity.items()}
    facts = {**_FORMAT, "manifest": manifest, "records": len(rows), "fidelity": reached}
    # All facts under one key, since safetensors writes several keys in random order.
    data = safetensors.numpy.save(tensors, {_KEY: json.dumps(facts, sort_keys=True, separators=(",", ":"))})
    return f"shard-{ordered[0][:6].hex()}-{hashlib.sha256(data).hexdigest()[:32]}.safetensors", data


@dataclass(frozen=True, eq=False)
class Shard:
    """The header and index of a shard file.

    Attributes:
        path: the file.
        facts: `manifest` (its digest), `records` (their number), `fidelity` (by map).
        index: the rows of all records, in ascending order, one after the other.
        places: for each tensor its first byte in the file, and the byte after its last.
        nbytes: the size of the file.
    """

    path: Path
    facts: dict[str, Any]
    index: bytes | memoryview
    places: dict[str, tuple[int, int]]
    nbytes: int

    @property
    def records(self) -> list[Record]:
        """(key, view) of every record."""
        return [record(bytes(self.index[i : i + ROW])) for i in range(0, len(self.index), ROW)]

    @classmethod
    def read(cls, path: Path) -> Shard:
        """Reads the header and index of a shard, by plain reads: a memory map of a truncated file would crash.

        Raises:
            ValueError: the file is not a whole shard of this format, with the reason; a ForeignFileError if it is a
                link that leads out of its folder, or not a regular file.
            OSError: it cannot be read.
        """
        descriptor = open_inside(path.parent, path.name)
        try:
            size = os.fstat(descriptor).st_size
            head = os.pread(descriptor, _HEAD, 0)
            length = int.from_bytes(head[:8], "little")
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise ValueError("its header is damaged or cut off")
            facts, places = _parse(_part(descriptor, head, 8, 8 + length), 8 + length, size)
            index = _part(descriptor, head, *places["index"])
        finally:
            os.close(descriptor)
        if len(index) != ROW * facts["records"] or max(index[32::ROW]) >= len(VIEWS):
            raise ValueError("its index is damaged")
        return cls(path, facts, index, places, size)

    def check_maps(self, names: Sequence[str]) -> None:
        """Raises ValueError unless the shard holds both bands of exactly these maps."""
        tensors = {f"{part}/{name}/{band}" for part in ("maps", "table") for name in names for band in BANDS}
        if self.places.keys() != tensors | {"index"} or self.facts["fidelity"].keys() != set(names):
            raise ValueError(f"its tensors are not those of the maps {', '.join(names)}, or their names are damaged")

    def check_codes(self) -> None:
        """Reads every code and raises ValueError unless the index ascends and each code matches its CRC-32."""
        rows = [bytes(self.index[i : i + ROW]) for i in range(0, len(self.index), ROW)]
        if rows != sorted(set(rows)):
            raise ValueError("its records are not in ascending order")
        descriptor = open_inside(self.path.parent, self.path.name)
        try:
            for name in (name.partition("/")[2] for name in self.places if name.startswith("maps/")):
                table = self.table(descriptor, name)
                for position in range(len(rows)):
                    self.code(descriptor, name, position, table)
        except DamagedRecordError as error:
            raise ValueError(f"{error} is damaged") from error
        finally:
            os.close(descriptor)

    def table(self, descriptor: int, name: str) -> np.ndarray:
        """(records, 2) uint32 of "map/band": the end of each code among the codes of all records, and its CRC-32."""
        start, stop = self.places[f"table/{name}"]
        return np.frombuffer(os.pread(descriptor, stop - start, start), "<u4").reshape(-1, 2)

    def code(self, descriptor: int, name: str, position: int, table: np.ndarray) -> bytes:
        """The code "map/band" of the record at a position of the index, found by the `table` (records, 2) of that name.

        Raises:
            DamagedRecordError: the code, or the index row that names it, is not what was written.
        """
        first = int(table[position - 1, 0]) if position else 0
        (start, stop), last = self.places[f"maps/{name}"], int(table[position, 0])
        code = os.pread(descriptor, last - first, start + first) if first <= last <= stop - start else b""
        named = self.index[position * ROW : position * ROW + ROW]
        if zlib.crc32(code, zlib.crc32(named)) != table[position, 1]:
            raise DamagedRecordError(f"{name} of record {position}")
        return code


def unreadable(error: OSError) -> str:
    """The reason and remedy for a shard that cannot be read, which proves nothing about its bytes."""
    return f"it cannot be read: {error.strerror or error}; if that persists, remove it and extract again"


class DamagedRecordError(ValueError):
    """A record whose bytes are not those that were written."""


def _parse(header: bytes, base: int, size: int) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """The facts of a shard, and the first byte and end of each tensor in the file, where tensors begin at `base`."""
    try:
        tensors, metadata = parse_header(header)
        facts = parse(metadata[_KEY])
        known = {name: facts[name] for name in _FORMAT}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("its header is damaged") from error
    if known != _FORMAT:
        raise ValueError(f"it has format {known}, but this library reads {_FORMAT}")
    try:
        check_shard_facts(facts, most=SIZE)
        _check_tensors(tensors, facts["records"])
    except ValueError as error:
        raise ValueError(f"its header is damaged: {error}") from error
    places = {name: (base + tensor.start, base + tensor.stop) for name, tensor in tensors.items()}
    end = max(stop for _, stop in places.values())
    if end > size:
        raise ValueError("it is cut off, or its header is damaged")
    if end != size:
        raise ValueError("bytes were added to it, or its header is damaged")
    return facts, places


def _check_tensors(tensors: Mapping[str, TensorPlace], records: int) -> None:
    """Raises ValueError unless there is an index, and a table of matching size for each map and band."""
    if "index" not in tensors or tensors["index"][:2] != ("U8", (records, ROW)):
        raise ValueError(f"expected an index of {records} rows")
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        if part == "maps":
            table = tensors.get(f"table/{rest}")
            if tensor.dtype != "U8" or len(tensor.shape) != 1 or not table or table[:2] != ("U32", (records, 2)):
                raise ValueError(f"expected a table of {records} rows for each map and band")
        elif name != "index" and (part != "table" or f"maps/{rest}" not in tensors):
            raise ValueError("expected an index, and codes and table for each map and band")


def _part(descriptor: int, head: bytes, start: int, stop: int) -> bytes:
    return head[start:stop] if stop <= len(head) else os.pread(descriptor, stop - start, start)
