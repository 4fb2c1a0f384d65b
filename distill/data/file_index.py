"""The facts that earlier scans found in each file, so that one that has not changed is neither read nor decoded again.

The index (`home/file_index.jsonl`) has two levels: (path, size, times of change) -> key of the content, and key -> what
the content is. A renamed or copied file is therefore read again but not decoded again; a bad file is never recorded.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

from distill.data.image_io import Source
from distill.runtime.io import write_bytes

NAME = "file_index.jsonl"  # two lines: version and sha256 of the second line; then the index
VERSION = 2  # of the contents: raised when reading changes what a file means

Kind = str  # image, mask, or what `Reading.kind` calls masks of several classes
Stamp = tuple[int, int, int]  # size in bytes, time of change of the content and of the entry in ns

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Facts:
    """The facts of one readable file."""

    key: str  # sha256 (hex) of the file's bytes
    size: tuple[int, int]  # height and width, EXIF rotation applied
    low: int = 0  # lowest level of a mask, or class number but 255; 0 for an image
    high: int = 0  # the highest; of an image the highest level of more than 8 bits, 0 where it has 8
    below: int = 0  # highest level of a mask under 255
    void: bool = False  # whether a mask of several classes has pixels of 255


@dataclass
class FileIndex:
    """The index in memory; its file is replaced as a whole so that no reader meets half of it."""

    path: Path
    files: dict[str, list[int | str]] = field(default_factory=dict)  # path -> stamp, key
    contents: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # kind -> key -> size and levels
    changed: bool = False

    @classmethod
    def load(cls, home: Path) -> FileIndex:
        """Reads the index of a home; one that is absent, damaged or of another version counts as empty."""
        path = home / NAME
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            about = json.loads(head)
            if about["version"] == VERSION:
                if about["sha256"] != hashlib.sha256(body).hexdigest():
                    raise ValueError("it is not what was written")
                return cls(path, **json.loads(body))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("%s cannot be read (%s); every file is read again", path, error)
        return cls(path)

    def save(self) -> None:
        """Writes the index if this scan found anything new."""
        if self.changed:
            body = json.dumps({"files": self.files, "contents": self.contents}, separators=(",", ":")).encode("ascii")
            head = json.dumps({"version": VERSION, "sha256": hashlib.sha256(body).hexdigest()}).encode("ascii")
            write_bytes(self.path, head + b"\n" + body)  # in ASCII, since a path need not be UTF-8

    def find(self, kind: Kind, source: Source, stamp: Stamp | None) -> Facts | None:
        """The facts of a file that has not changed since it was read."""
        entry = self.files.get(_name(source)) if stamp else None
        if entry is None or tuple(entry[:3]) != stamp:
            return None
        return self.find_content(kind, str(entry[3]))

    def find_content(self, kind: Kind, key: str) -> Facts | None:
        """The facts of bytes that were read under whatever name."""
        entry = self.contents.get(kind, {}).get(key)
        if entry is None:
            return None
        height, width, low, high, below, void = entry
        return Facts(key, (height, width), low, high, below, bool(void))

    def record(self, kind: Kind, source: Source, stamp: Stamp | None, *, facts: Facts) -> None:
        """Records the facts of a source that was at `stamp` before it was read."""
        if stamp:
            self.files[_name(source)] = [*stamp, facts.key]
        entry = [*facts.size, facts.low, facts.high, facts.below, int(facts.void)]
        self.contents.setdefault(kind, {})[facts.key] = entry
        self.changed = True


def stamp_of(source: Source) -> Stamp | None:
    """Size and times of change of a file; None for what is no file, or not there.

    The second time changes even where another file of the same size was put in its place with its old time.
    """
    try:
        status = source.stat() if isinstance(source, Path) else None
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else None


def _name(source: Source) -> str:
    path = source if isinstance(source, Path) else Path(str(source))
    return str(path if path.is_absolute() else path.absolute())
