"""Looks at every file once: hashes it, decodes it for real, and remembers what it saw.

The memo (`home/memo.json`) has two levels: (path, size, time of change) -> key of the content, and key -> what the
content is. A renamed or copied file is therefore read again but not decoded again; a bad file is never remembered.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from distill.data.image_io import NO_PICTURE, Source, as_levels, as_rgb, decode
from distill.data.mask_classes import as_classes
from distill.metrics.overlap import IGNORED
from distill.runtime.io import write_text

logger = logging.getLogger("bandpass")

VERSION = 1  # of the memo's contents: raised when reading changes what a file means
SLOW = 1.0  # seconds after which a scan shows its progress
MANY = 500  # files from which a scan is announced

Kind = str  # image, mask, or what `Reading.kind` calls masks of several classes
Stamp = tuple[int, int]  # size in bytes, time of change in ns


@dataclass(frozen=True)
class Facts:
    """What is known of one readable file."""

    key: str  # sha256 (hex) of the file's bytes
    size: tuple[int, int]  # height and width, EXIF rotation applied
    low: int = 0  # lowest and highest level of a mask, or class number but 255; 0 for an image
    high: int = 0


@dataclass
class Memo:
    """What earlier scans saw, in a file that is replaced as a whole so that no reader meets half of it."""

    path: Path
    files: dict[str, list[int | str]] = field(default_factory=dict)  # path -> size, time of change (ns), key
    contents: dict[str, dict[str, list[int]]] = field(default_factory=lambda: {"image": {}, "mask": {}})
    changed: bool = False

    @classmethod
    def load(cls, path: Path) -> Memo:
        """Reads the memo; one that is absent, damaged or of another version counts as empty."""
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["version"] == VERSION:
                return cls(path, stored["files"], stored["contents"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read (%s); every file is looked at again", path, error)
        return cls(path)

    def save(self) -> None:
        """Writes the memo if this scan saw anything new."""
        if not self.changed:
            return
        stored = {"version": VERSION, "files": self.files, "contents": self.contents}
        write_text(self.path, json.dumps(stored, separators=(",", ":"), ensure_ascii=False))

    def find(self, kind: Kind, source: Source, stamp: Stamp | None) -> Facts | None:
        """The facts of a file that has not changed since it was looked at."""
        entry = self.files.get(_name(source)) if stamp else None
        if entry is None or tuple(entry[:2]) != stamp:
            return None
        return self.find_content(kind, str(entry[2]))

    def find_content(self, kind: Kind, key: str) -> Facts | None:
        """The facts of bytes that were looked at under whatever name."""
        entry = self.contents.get(kind, {}).get(key)
        return None if entry is None else Facts(key, (entry[0], entry[1]), *entry[2:])

    def remember(self, kind: Kind, source: Source, stamp: Stamp | None, *, facts: Facts) -> None:
        """Records the facts of a source that was at `stamp` before it was read."""
        if stamp:
            self.files[_name(source)] = [*stamp, facts.key]
        levels = [facts.low, facts.high] if kind != "image" else []
        self.contents.setdefault(kind, {})[facts.key] = [*facts.size, *levels]
        self.changed = True


def scan(tasks: Sequence[tuple[Kind, Source]], *, home: Path) -> list[Facts | str]:
    """Looks at every file that the memo does not know, on several threads.

    Args:
        tasks: what each source should be, and the source.
        home: the folder of the memo.

    Returns:
        For each task its facts, or what is wrong with it: the end of a sentence that begins with the file's name.
    """
    memo = Memo.load(home / "memo.json")
    stamps = [_stamp(source) for _, source in tasks]
    found = [memo.find(*task, stamp) for task, stamp in zip(tasks, stamps, strict=True)]
    new = [place for place, facts in enumerate(found) if facts is None]
    results: list[Facts | str | None] = [*found]
    for place, facts in zip(new, _look_at_all([tasks[place] for place in new], memo), strict=True):
        results[place] = facts
        if isinstance(facts, Facts):
            memo.remember(*tasks[place], stamps[place], facts=facts)
    memo.save()
    return [facts for facts in results if facts is not None]


def _look_at_all(tasks: Sequence[tuple[Kind, Source]], memo: Memo) -> list[Facts | str]:
    if not tasks:
        return []
    from tqdm import tqdm

    if len(tasks) >= MANY:
        logger.info("looking at each of %d files once; later runs remember what was seen", len(tasks))
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        results = pool.map(partial(_look_safely, memo), tasks)
        # disable=None: no bar where there is no terminal
        bar = tqdm(results, total=len(tasks), desc="looking at each file once", unit="file", delay=SLOW, disable=None)
        return list(bar)


def _look_safely(memo: Memo, task: tuple[Kind, Source]) -> Facts | str:
    try:
        return look(*task, memo=memo)
    except UnidentifiedImageError:
        return f"{NO_PICTURE}; replace or remove it"
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        return f"cannot be opened ({error.strerror}); check the file and its permissions"
    except Image.DecompressionBombError as error:
        return f"is too large ({error}); save it smaller or in tiles"
    except OSError as error:
        return f"is truncated or damaged ({error}); copy it again from its origin"
    except ValueError as error:
        return str(error)


def look(kind: Kind, source: Source, *, memo: Memo) -> Facts:
    """Hashes and decodes one file.

    Args:
        kind: whether it should be an image or a mask, and of what kind.
        source: the file.
        memo: asked first, by content.

    Raises:
        OSError: the file is no picture or truncated.
        ValueError: it is empty, or its values have no known range.
    """
    data = source.read_bytes()
    if not data:
        raise ValueError("has 0 bytes; copy it again from its origin")
    key = hashlib.sha256(data).hexdigest()
    if seen := memo.find_content(kind, key):
        return seen
    image = decode(data)
    if kind == "image":
        width, height = as_rgb(image).size
        return Facts(key, (height, width))
    if kind == "mask":
        levels = np.asarray(as_levels(image))
        return Facts(key, (levels.shape[0], levels.shape[1]), int(levels.min()), int(levels.max()))
    numbers = as_classes(image, colours=tuple(kind.split()[1:]))
    known = numbers[numbers != IGNORED]
    low, high = (int(known.min()), int(known.max())) if known.size else (0, 0)
    return Facts(key, (numbers.shape[0], numbers.shape[1]), low, high)


def _name(source: Source) -> str:
    return str(Path(str(source)).absolute())


def _stamp(source: Source) -> Stamp | None:
    """Size and time of change of a file; None for what is no file, or not there."""
    try:
        status = source.stat() if isinstance(source, Path) else None
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status else None
