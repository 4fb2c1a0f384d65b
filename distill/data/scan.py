"""Reads the hash, size and levels of every file once; `distill.data.file_index` keeps the results."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from distill.data.file_index import Facts, FileIndex, Kind, Task, stamps_of
from distill.data.image_io import (
    Source,
    as_levels,
    as_rgb,
    decode,
    encoded,
    is_turned,
    why_unreadable,
)
from distill.data.mask_classes import as_classes
from distill.metrics.overlap import IGNORED
from distill.runtime.progress import progress

JPEG = b"\xff\xd8"  # the first bytes of such a file, whatever its name
MANY = 500  # files from which a scan is announced and shows progress

logger = logging.getLogger("bandpass")


def scan(tasks: Sequence[Task], *, home: Path) -> list[Facts | str]:
    """Reads every file that the file index does not know, on several threads.

    Args:
        tasks: the kind that each source should have, and the source.
        home: the folder of the index.

    Returns:
        For each task its facts, or what is wrong: the end of a sentence that begins with the file's name.
    """
    index = FileIndex.load(home)
    stamps = stamps_of(source for _, source in tasks)
    results: list[Facts | str | None] = [*index.find(tasks, stamps)]
    new = [place for place, facts in enumerate(results) if facts is None]
    for place, facts in zip(new, _read_all([tasks[place] for place in new], index), strict=True):
        results[place] = facts
    good = [place for place in new if isinstance(results[place], Facts)]
    index.record([tasks[p] for p in good], stamps[good], facts=[f for p in good if isinstance(f := results[p], Facts)])
    index.save()
    return [facts for facts in results if facts is not None]


def _read_all(tasks: Sequence[Task], index: FileIndex) -> list[Facts | str]:
    if not tasks:
        return []
    many = len(tasks) >= MANY
    if many:
        logger.info("reading each of %d files once; later runs use the file index", len(tasks))
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        results = pool.map(partial(_facts_or_reason, index), tasks)
        return list(progress(results, what="read", total=len(tasks), unit="files", shown=many))


def _facts_or_reason(index: FileIndex, task: Task) -> Facts | str:
    try:
        return read_facts(*task, index=index)
    except Exception as error:  # one bad file never ends a run, whatever a library raises
        return why_unreadable(error)


def read_facts(kind: Kind, source: Source | str, *, index: FileIndex) -> Facts:
    """Hashes and decodes one file.

    Args:
        kind: whether it should be an image or a mask, and of what kind.
        source: the file.
        index: asked first, by content.

    Raises:
        OSError: the file is not a picture, or is truncated.
        ValueError: it is empty, or its values have no known range.
    """
    data = encoded(source)
    if not data:
        raise ValueError("has 0 bytes; copy it again from its origin")
    key = hashlib.sha256(data).hexdigest()
    if known := index.find_content(kind, key):
        return known
    image = decode(data)
    turned = is_turned(data)
    if kind == "image":
        width, height = as_rgb(image).size
        wide = int(np.asarray(image).max()) if image.mode[0] == "I" else 0
        return Facts(key, (height, width), high=wide, turned=turned)
    if kind == "mask":
        grey = as_levels(image)
        levels = np.flatnonzero(grey.histogram())
        below = levels[levels < IGNORED].max(initial=0)
        return Facts(key, (grey.height, grey.width), int(levels[0]), int(levels[-1]), below=int(below), turned=turned)
    colours = tuple(kind.split()[1:])
    if not colours and data.startswith(JPEG):
        raise ValueError(
            "is a JPEG, which does not keep class numbers; save it as PNG, or give data.colours if it holds colours"
        )
    numbers = as_classes(image, colours=colours)
    classes = np.flatnonzero(np.bincount(numbers.ravel(), minlength=IGNORED + 1)[:IGNORED])
    low, high = (int(classes[0]), int(classes[-1])) if classes.size else (0, 0)
    void = bool((numbers == IGNORED).any())
    return Facts(key, (numbers.shape[0], numbers.shape[1]), low, high, void=void, turned=turned)
