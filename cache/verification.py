"""Whether every byte of a cache is as it was written, and what to extract again if not."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache.manifest import NAME, DamagedError, Manifest
from cache.reader import codec_bytes
from cache.shard import PATTERN, Record, Shard, unreadable

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Problem:
    """One damaged, unreadable, foreign or missing file of a cache.

    Attributes:
        file: its name.
        reason: what is wrong, as a clause.
        records: the (key, view) records to extract again, as far as the file still tells; empty if it does not.
        kind: damaged (or missing), as its own bytes prove; unreadable, which proves nothing; or foreign, no part of
            this cache, which does without it.
    """

    file: str
    reason: str
    records: tuple[Record, ...] = ()
    kind: Literal["damaged", "unreadable", "foreign"] = "damaged"

    @property
    def removable(self) -> bool:
        """Whether removing the file mends the cache; manifest and statistics are written anew over the old."""
        return self.kind == "damaged" and PATTERN.fullmatch(self.file) is not None

    def __str__(self) -> str:
        if not (self.removable or self.records):
            return f"{self.file}: {self.reason}"
        images = ", ".join(sorted({key for key, _ in self.records}))
        return f"{self.file}: {self.reason}; to extract again: {images or 'unknown, extract again with do=extract'}"


def verify(path: str | Path, *, expected: Iterable[Record] = ()) -> list[Problem]:
    """Check every byte of a cache: shards against their names, statistics against the manifest, it against itself.

    Args:
        path: the cache folder.
        expected: (key, view) records that ought to be there; the cache alone cannot know of a shard that was deleted.

    Returns:
        The problems, none if all is well.

    Raises:
        FileNotFoundError: the folder is no cache.
        ValueError: it is a cache of another version.
    """
    folder = Path(path)
    problems: list[Problem] = []
    manifest: Manifest | None = None
    try:
        manifest = Manifest.read(folder)
    except DamagedError as error:
        problems.append(Problem(NAME, str(error)))
    if manifest is not None:
        problems += [problem for name in manifest.spec.names if (problem := _examine_codec(folder, manifest, name))]
    damaged = [problem for file in sorted(folder.glob("shard-*")) if (problem := _examine(file, manifest))]
    if manifest is not None and expected:
        problems += _missing(folder, expected, {problem.file for problem in damaged})
    return problems + damaged


def repair(path: str | Path) -> list[Problem]:
    """Remove the damaged shards, so that the next extraction writes their records again; returns what was wrong.

    Damaged manifests and statistics are left where they are: `create` writes them anew. Foreign shards are told of.

    Raises:
        ValueError: the cache is of another version; nothing is removed.
        OSError: a shard cannot be read; it is not removed.
    """
    problems = verify(path)
    for problem in problems:
        if problem.removable:
            (Path(path) / problem.file).unlink(missing_ok=True)
            lost = f"{len(problem.records)} records" if problem.records else "its records"
            logger.warning("removed %s: %s; extract %s again", problem.file, problem.reason, lost)
        else:
            logger.warning("%s", problem)
    if unread := [str(problem) for problem in problems if problem.kind == "unreadable"]:
        raise OSError(f"in {path}, {'; '.join(unread)}")
    return problems


def _examine(file: Path, manifest: Manifest | None) -> Problem | None:
    named = PATTERN.fullmatch(file.name)
    if not named:
        return Problem(file.name, "its name is not that of a shard; it is left out, move it away", kind="foreign")
    try:
        shard = Shard.read(file)
        digest = _sha256(file)
    except ValueError as error:
        return Problem(file.name, f"it is damaged: {error}")
    except OSError as error:  # a disk may also fail in the middle of a file
        return Problem(file.name, unreadable(error), kind="unreadable")
    if not digest.startswith(named[2]):
        return Problem(file.name, "its bytes are not those its name was made from", tuple(shard.records))
    if manifest is not None and shard.facts["manifest"] != manifest.digest:
        return Problem(
            file.name, "it belongs to a cache of another identity; it is left out, move it away", kind="foreign"
        )
    return None


def _examine_codec(folder: Path, manifest: Manifest, name: str) -> Problem | None:
    try:
        codec_bytes(folder, manifest, name)
    except DamagedError as error:
        return Problem(manifest.codecs[name]["file"], str(error))
    return None


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _missing(folder: Path, expected: Iterable[Record], bad: set[str]) -> list[Problem]:
    whole = {record for file in folder.glob("shard-*") if file.name not in bad for record in Shard.read(file).records}
    missing = tuple(sorted(set(expected) - whole))
    return [Problem("(no file)", f"{len(missing)} records are missing", missing)] if missing else []
