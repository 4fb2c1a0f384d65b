"""The facts that earlier scans found in each file; an unchanged file is neither read nor decoded again.

The index (`home/file_index.table`) is a table of rows of equal size, sorted by a digest of the path. It is mapped, not
parsed: two million files take 0.2 GB, which all processes of a machine share. Rows are also found by content, so a
renamed or copied file is read again but not decoded again. Bad files are never recorded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.data.image_io import Source
from distill.runtime.io import write_bytes

NAME = "file_index.table"  # a line of `HEAD` bytes: version and sha256 of the rows; then the rows
VERSION = 7  # of the contents; raised when the way of reading files changes
HEAD = 128
AT_ONCE = 1 << 14  # files that are looked up at once: 8 MB
NO_FILE = (-1, -1, -1)

ROW = np.dtype(
    [
        ("place", "<u8"),  # half of the digest of the file's kind and path, by which rows are sorted
        ("rest", "<u8"),  # the other half
        ("kind", "<u8"),  # a digest
        ("stamp", "<i8", 3),  # size in bytes, time of change of the content and of the entry in ns
        ("key", "<u8", 4),  # sha256 of the file's bytes
        ("facts", "<i4", 7),  # height, width, then as in `Facts`
    ]
)

Kind = str  # image, mask, or what `Reading.kind` calls masks of several classes
Task = tuple[Kind, Source | str]

logger = logging.getLogger("bandpass")


class Facts(NamedTuple):
    """The facts of one readable file."""

    key: str  # sha256 (hex) of the file's bytes
    size: tuple[int, int]  # height and width, EXIF rotation applied
    low: int = 0  # lowest level of a mask, or class number but 255; 0 for an image
    high: int = 0  # the highest; of an image with more than 8 bits its highest level, 0 with 8 bits
    below: int = 0  # highest level of a mask under 255
    void: bool = False  # whether a mask of several classes has pixels of 255
    turned: bool = False  # whether an EXIF tag turns the picture


@dataclass
class FileIndex:
    """The index of a home; its file is replaced as a whole, so no reader sees half of it."""

    path: Path
    rows: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, ROW))
    new: list[NDArray[np.void]] = field(default_factory=list)  # rows of this scan

    @classmethod
    def load(cls, home: Path) -> FileIndex:
        """Maps the index of a home; a missing or damaged index, or one of another version, counts as empty."""
        path = home / NAME
        try:
            with path.open("rb") as stream:
                head = json.loads(stream.read(HEAD))
            if head["version"] != VERSION:
                return cls(path)
            rows = np.memmap(path, ROW, mode="r", offset=HEAD).view(np.ndarray)
            if head["sha256"] != hashlib.sha256(rows.view(np.uint8).data).hexdigest():
                raise ValueError("it is not what was written")
            return cls(path, rows)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("%s cannot be read (%s); every file is read again", path, error)
        return cls(path)

    def save(self) -> None:
        """Writes the index if this scan found anything new; a home that cannot be written costs only the next scan."""
        if not self.new:
            return
        rows = np.concatenate([*reversed(self.new), self.rows])  # of two rows of a file, the newer one stays
        rows = rows[np.unique(rows["place"], return_index=True)[1]]
        head = json.dumps({"version": VERSION, "sha256": hashlib.sha256(rows.view(np.uint8).data).hexdigest()})
        try:
            write_bytes(self.path, b"".join((head.ljust(HEAD - 1).encode(), b"\n", rows.view(np.uint8).data)))
        except OSError as error:
            logger.warning("%s cannot be written (%s); every file is read again next time", self.path, error.strerror)

    def find(self, tasks: Sequence[Task], stamps: NDArray[np.int64]) -> list[Facts | None]:
        """The facts of each file that has not changed since it was read; `stamps` (n, 3) come from `stamps_of`."""
        found: list[Facts | None] = [None] * len(tasks)
        for start in range(0, len(tasks) if len(self.rows) else 0, AT_ONCE):
            some = slice(start, start + AT_ONCE)
            places = places_of(source for _, source in tasks[some])
            names = digests_of(f"{kind}\0{place}" for (kind, _), place in zip(tasks[some], places, strict=True))
            rows = self.rows[np.searchsorted(self.places, names[:, 0]).clip(max=len(self.rows) - 1)]
            known = (rows["place"] == names[:, 0]) & (rows["rest"] == names[:, 1]) & (stamps[some, 0] >= 0)
            chosen = np.flatnonzero(known & (rows["stamp"] == stamps[some]).all(axis=1))
            for place, facts in zip(chosen.tolist(), facts_in(rows[chosen]), strict=True):
                found[start + place] = facts
        return found

    @cached_property
    def places(self) -> NDArray[np.uint64]:
        """The places (n,) of all rows, side by side in memory."""
        return np.ascontiguousarray(self.rows["place"])

    @cached_property
    def by_content(self) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """Parts (n,) of all keys in ascending order, and their rows (n,)."""
        parts = self.rows["key"][:, 0]
        order = np.argsort(parts, kind="stable")
        return parts[order], order

    def find_content(self, kind: Kind, key: str) -> Facts | None:
        """The facts of bytes that were read before under any name."""
        parts, order = self.by_content
        wanted, number = np.frombuffer(bytes.fromhex(key), "<u8"), digests_of([kind])[0, 0]
        first, last = (int(np.searchsorted(parts, wanted[0], side=side)) for side in ("left", "right"))
        rows = self.rows[order[first:last]]
        return next(facts_in(rows[(rows["kind"] == number) & (rows["key"] == wanted).all(axis=1)]), None)

    def record(self, tasks: Sequence[Task], stamps: NDArray[np.int64], *, facts: Sequence[Facts]) -> None:
        """Records the facts of sources with `stamps` (n, 3) from before reading; non-files by content only."""
        if not tasks:
            return
        rows = np.zeros(len(tasks), ROW)
        known = zip(tasks, places_of(source for _, source in tasks), stamps[:, 0].tolist(), facts, strict=True)
        names = digests_of(
            f"{kind}\0{place}" if size >= 0 else f"{kind}\0\0{one.key}" for (kind, _), place, size, one in known
        )
        rows["place"], rows["rest"], rows["stamp"] = names[:, 0], names[:, 1], stamps
        kinds = {kind: digests_of([kind])[0, 0] for kind in dict.fromkeys(kind for kind, _ in tasks)}
        rows["kind"] = [kinds[kind] for kind, _ in tasks]
        rows["key"] = np.frombuffer(bytes.fromhex("".join(one.key for one in facts)), "<u8").reshape(-1, 4)
        rows["facts"] = [(*one.size, one.low, one.high, one.below, one.void, one.turned) for one in facts]
        self.new.append(rows)


def stamps_of(sources: Iterable[Source | str]) -> NDArray[np.int64]:
    """Size and times of change of files, (n, 3); -1 for a source that is not a file, or is missing.

    The second time changes even if another file of the same size and modification time takes its place.
    """
    values = array("q")
    for source in sources:
        try:
            status = os.stat(source) if isinstance(source, (str, Path)) else None  # noqa: PTH116 - millions are asked
        except OSError:
            status = None
        values.extend((status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else NO_FILE)
    return np.array(values, np.int64).reshape(-1, 3)


def places_of(sources: Iterable[Source | str]) -> list[str]:
    """The absolute path of each file; empty for other sources."""
    here = f"{Path.cwd()}{os.sep}"
    names = [str(source) if isinstance(source, (str, Path)) else "" for source in sources]
    return [name if name.startswith((os.sep, "/")) or not name else here + name for name in names]


def digests_of(names: Iterable[str]) -> NDArray[np.uint64]:
    """Digests (n, 2) of names, which need not be UTF-8."""
    digests = [hashlib.blake2b(os.fsencode(name), digest_size=16).digest() for name in names]
    return np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)


def facts_in(rows: NDArray[np.void]) -> Iterator[Facts]:
    """The facts in rows (n,), in order; equal sizes share one object."""
    keys, sizes = rows["key"].tobytes().hex(), dict[tuple[int, int], tuple[int, int]]()
    for number, (height, width, low, high, below, void, turned) in enumerate(rows["facts"].tolist()):
        size = sizes.setdefault((height, width), (height, width))
        yield Facts(keys[64 * number : 64 * number + 64], size, low, high, below, bool(void), bool(turned))
