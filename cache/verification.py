"""Checking every byte of a cache, and removing the shards that are damaged."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache.files import ForeignFileError
from cache.manifest import NAME, DamagedError, Manifest
from cache.reader import read_codec
from cache.schema import codec_file
from cache.shard import PATTERN, Record, Shard, unreadable

SHOWN = 3  # the images that the message about a damaged file names

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Problem:
    """One damaged, unreadable, foreign or missing file of a cache.

    Attributes:
        file: its name.
        reason: a clause that says what is wrong.
        records: the (key, view) records to extract again if they can still be read from the file; else empty.
        kind: "damaged" (or missing), as its own bytes prove; "unreadable", which proves nothing about its bytes; or
            "foreign", which is not part of this cache and not needed by it.
    """

    file: str
    reason: str
    records: tuple[Record, ...] = ()
    kind: Literal["damaged", "unreadable", "foreign"] = "damaged"

    @property
    def removable(self) -> bool:
        """Whether removing the file repairs the cache; manifest and codec files are overwritten instead."""
        return self.kind == "damaged" and PATTERN.fullmatch(self.file) is not None

    def __str__(self) -> str:
        file = self.file if self.file.isprintable() else ascii(self.file)
        if not (self.removable or self.records):
            return f"{file}: {self.reason}"
        keys = sorted({key for key, _ in self.records})
        more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        images = ", ".join(keys[:SHOWN]) + more
        return f"{file}: {self.reason}; to extract again: {images or 'unknown, extract again with distill extract'}"


def verify(path: str | Path, *, expected: Iterable[Record] = ()) -> list[Problem]:
    """Checks every byte of a cache: shards against their names, codecs and manifest against their checksums.

    Args:
        path: the cache folder.
        expected: (key, view) records that must be there; a deleted shard cannot be found without them.

    Returns:
        The problems; empty for an intact cache.

    Raises:
        FileNotFoundError: the folder is not a cache.
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
    """Removes the damaged shards, so that the next extraction writes their records again; returns the problems.

    Damaged manifests and codecs are left in place: `create` rewrites them. Foreign files are only logged.

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
    except ForeignFileError as error:
        return Problem(file.name, f"{error}; it is left out", kind="foreign")
    except ValueError as error:
        return Problem(file.name, f"it is damaged: {error}")
    except OSError as error:  # a disk may also fail in the middle of a file
        return Problem(file.name, unreadable(error), kind="unreadable")
    if not digest.startswith(named[2]) or bytes(shard.index[:6]).hex() != named[1]:
        return Problem(file.name, "its bytes are not those its name was made from", tuple(shard.records))
    if manifest is not None and shard.facts["manifest"] != manifest.digest:
        return Problem(
            file.name, "it belongs to a cache of another identity; it is left out, move it away", kind="foreign"
        )
    try:
        if manifest is not None:
            shard.check_maps(manifest.spec.names)
        shard.check_codes()
    except ValueError as error:
        return Problem(file.name, f"it is damaged: {error}", tuple(shard.records))
    except OSError as error:
        return Problem(file.name, unreadable(error), kind="unreadable")
    return None


def _examine_codec(folder: Path, manifest: Manifest, name: str) -> Problem | None:
    try:
        read_codec(folder, manifest, name)
    except DamagedError as error:
        return Problem(codec_file(name), str(error))
    except OSError as error:
        return Problem(codec_file(name), unreadable(error), kind="unreadable")
    return None


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _missing(folder: Path, expected: Iterable[Record], bad: set[str]) -> list[Problem]:
    files = (file for file in folder.glob("shard-*") if file.name not in bad)
    whole = {record for file in files for record in Shard.read(file).records}
    missing = tuple(sorted(set(expected) - whole))
    return [Problem("(no file)", f"{len(missing)} records are missing", missing)] if missing else []
