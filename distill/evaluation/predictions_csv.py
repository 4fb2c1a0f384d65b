"""predictions.csv: the scores of every test image."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.config.command import command_for
from distill.metrics.confusion import Pairs
from distill.metrics.per_image import ImageScore
from distill.runtime.io import write_text

COLUMNS = ("dataset", "stem", "key", "dice", "iou")  # before any other figure
SHARE = "share"  # of the image's area that its mask covers; a column where every figure was taken


@dataclass(frozen=True)
class Score:
    """One image's figures, in the convention of `distill.metrics`."""

    dataset: str
    stem: str
    key: str
    dice: float
    iou: float
    group: str | None = field(default=None, compare=False)  # the sequence or patient, where known
    whole: ImageScore | None = field(default=None, repr=False, compare=False)  # every figure, where asked for
    classes: dict[int, dict[str, float]] | None = field(default=None, repr=False, compare=False)  # the same of several
    pairs: Pairs | None = field(default=None, repr=False, compare=False)  # of several: by true and predicted class
    share: float | None = field(default=None, compare=False)  # of the image's area under its mask, where it was taken


def write_predictions(path: Path, scores: Mapping[str, Sequence[Score]]) -> str:
    """predictions.csv: one line a test image, with the full precision of its figures; returns its sha256 (hex)."""
    text = io.StringIO()
    every = [one for part in scores.values() for one in part]
    names = (*COLUMNS, *(further(every[0]) if every else ()))
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**{name: getattr(one, name) for name in COLUMNS}, **further(one)} for one in every)
    write_text(path, text.getvalue())
    return hashlib.sha256(text.getvalue().encode()).hexdigest()


def further(score: Score) -> dict[str, float]:
    """The columns beyond `COLUMNS`: every other figure of an image, and the share of it that its mask covers."""
    if score.whole is None:
        return {}
    return {name: value for name, value in score.whole.figures.items() if name not in COLUMNS} | {
        SHARE: score.whole.share
    }


def read_rows(path: Path, *, digest: str | None = None) -> list[dict[str, str]]:
    """The lines of a predictions.csv, column by column.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no table, or not that of the digest, where one is given.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no predictions at {path}; type {command_for('evaluate')} first")
    data = path.read_bytes()
    if digest not in (None, hashlib.sha256(data).hexdigest()):
        raise ValueError(f"{path} is damaged (it is not what metrics.json records); type {command_for('evaluate')}")
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))


def read_predictions(path: Path, *, digest: str | None = None) -> list[Score]:
    """The scores in a predictions.csv: Dice, IoU and the share under the mask; errors as of `read_rows`."""
    return [
        Score(row["dataset"], row["stem"], row["key"], float(row["dice"]), float(row["iou"]),
              share=float(row[SHARE]) if row.get(SHARE) else None)
        for row in read_rows(path, digest=digest)
    ]  # fmt: skip
