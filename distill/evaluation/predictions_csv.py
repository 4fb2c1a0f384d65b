"""predictions.csv: the scores of every test image."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from sys import intern

from distill.config.command import command_for
from distill.metrics.confusion import Pairs
from distill.metrics.names import OVERLAPS
from distill.metrics.per_image import ImageScore
from distill.runtime.io import digest_of_file, write_parts

IMAGE = ("dataset", "stem", "key")  # columns that name the image
COLUMNS = (*IMAGE, *OVERLAPS)  # before any other figure
SHARE = "share"  # of the image's area that its mask covers; a column if every figure was computed
PART = 1 << 20  # characters that are written at once


@dataclass(frozen=True, slots=True)
class Score:
    """One image's figures, in the convention of `distill.metrics`."""

    dataset: str
    stem: str
    key: str
    dice: float
    iou: float
    group: str | None = field(default=None, compare=False)  # the sequence or patient, if known
    whole: ImageScore | None = field(default=None, repr=False, compare=False)  # every figure, if asked for
    classes: dict[int, dict[str, float]] | None = field(default=None, repr=False, compare=False)  # figures by class
    pairs: Pairs | None = field(default=None, repr=False, compare=False)  # pixels by true and predicted class
    share: float | None = field(default=None, compare=False)  # of the image's area under its mask, if computed


def write_predictions(path: Path, lines: Iterable[Mapping[str, str | float]]) -> str:
    """Writes predictions.csv, one line per test image with its figures in full precision; returns its sha256 (hex).

    Args:
        path: of the file.
        lines: column -> value for each image, all with the columns of the first; written as they come.
    """
    digest = hashlib.sha256()

    def passed() -> Iterator[bytes]:
        for part in _encoded(lines):
            digest.update(part)
            yield part

    write_parts(path, passed())
    return digest.hexdigest()


def _encoded(lines: Iterable[Mapping[str, str | float]]) -> Iterator[bytes]:
    """The table's text, some MB at a time."""
    rest = iter(lines)
    first = next(rest, None)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=first or COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in () if first is None else chain([first], rest):
        writer.writerow(line)
        if text.tell() > PART:
            yield text.getvalue().encode()
            text.seek(0), text.truncate()
    yield text.getvalue().encode()


def read_rows(path: Path, *, digest: str | None = None) -> Iterator[dict[str, str]]:
    """The lines of a predictions.csv, column by column.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not a table, or does not match the digest, if one is given.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no predictions at {path}; type {command_for('evaluate')} first")
    with path.open("rb") as file:
        if digest not in (None, digest_of_file(file)):
            raise ValueError(f"{path} is damaged (it is not what metrics.json records); type {command_for('evaluate')}")
        file.seek(0)
        with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            yield from csv.DictReader(text)


def read_predictions(path: Path, *, digest: str | None = None) -> list[Score]:
    """The scores in a predictions.csv: Dice, IoU and the share under the mask; errors as of `read_rows`.

    Image names are interned, so that they are held once for any number of runs.
    """
    return [
        Score(intern(row["dataset"]), intern(row["stem"]), intern(row["key"]), float(row["dice"]), float(row["iou"]),
              share=float(row[SHARE]) if row.get(SHARE) else None)
        for row in read_rows(path, digest=digest)
    ]  # fmt: skip
