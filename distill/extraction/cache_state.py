"""The state of a cache folder: the records that are missing, found out by opening it once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cache
from cache.shard import Record

LONG = 2_000_000_000  # bytes, from which reading all of them takes long enough to be announced

Stamps = tuple[tuple[str, int, int, int], ...]  # of each file name, size in bytes and both times of change in ns

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class CacheState:
    """The state of a cache folder.

    Attributes:
        initialised: whether manifest and statistics exist as they were written.
        missing: the wanted records that it lacks, sorted.
        batch_size: images per forward pass, on which its bytes depend; None without a manifest.
    """

    initialised: bool
    missing: tuple[Record, ...]
    batch_size: int | None = None

    @property
    def complete(self) -> bool:
        """Whether the cache holds every wanted record."""
        return self.initialised and not self.missing


def inspect_cache(folder: Path, records: Sequence[Record]) -> CacheState:
    """The state of a folder with respect to the wanted records; a damaged manifest counts as none.

    Raises:
        ValueError: the cache is of another version, or was made for other views.
    """
    if not cache.exists(folder):
        return CacheState(initialised=False, missing=tuple(records))
    try:
        store = cache.open(folder)
    except cache.DamagedError:
        return CacheState(initialised=False, missing=tuple(records))
    missing = tuple(record for shard in cache.plan(store, records) for record in shard)
    try:
        return CacheState(bool(store.codecs), missing, store.batch_size)
    except cache.DamagedError:
        return CacheState(initialised=False, missing=missing, batch_size=store.batch_size)


def is_whole(folder: Path, records: Sequence[Record]) -> bool:
    """Whether a folder holds all the records, with every byte as it was written."""
    return inspect_cache(folder, records).complete and is_sound(folder, stamps_of(folder))


def stamps_of(folder: Path) -> Stamps:
    """Name, size and times of change (content and metadata) of every file of a cache."""
    files = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return tuple((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns) for name, status in files)


@lru_cache(maxsize=8)
def is_sound(folder: Path, stamps: Stamps) -> bool:
    """Whether `cache.verify` finds nothing but foreign files; run once per process while the files stay the same."""
    if (size := sum(size for _, size, *_ in stamps)) >= LONG:
        logger.info("verifying %s, %s", folder, format_bytes(size))
    return all(problem.kind == "foreign" for problem in cache.verify(folder))


def format_bytes(size: float) -> str:
    """A number of bytes in words: `3.20 GB`, or `41.5 MB` below 0.1 GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
