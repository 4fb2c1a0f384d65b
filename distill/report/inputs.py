"""The files of a run from which a page is made, each read once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cache.spec import MASK
from distill.data.sample import Sample
from distill.evaluation.predictions_csv import SHARE, read_rows
from distill.metrics.overlap import without_void
from distill.runs.run import LOG, PREDICTIONS, Run
from distill.runtime.io import read_json_if_sound
from distill.training.jsonl_log import read_log


@dataclass(frozen=True)
class Row:
    """The scores of one test image: a line of predictions.csv together with its sample."""

    sample: Sample
    figures: dict[str, float]  # every numeric column

    @property
    def dice(self) -> float:
        """Dice of the image."""
        return self.figures["dice"]


@dataclass(frozen=True)
class Inputs:
    """The files of an evaluated run."""

    run: Run

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """metrics.json.

        Raises:
            FileNotFoundError: the run has not been evaluated.
        """
        return self.run.require_evaluated()

    @cached_property
    def training(self) -> dict[str, Any]:
        """train.json; empty if there is none."""
        return self.run.read_summary() if self.run.trained.is_file() else {}

    @cached_property
    def published(self) -> dict[str, Any]:
        """published.json; empty if it is missing or damaged."""
        return read_json_if_sound(self.run.published / "published.json")

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """The complete lines of log.jsonl."""
        return read_log(self.run.folder / "log.jsonl", digest=self.training.get(LOG))

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """The rows of each data set in predictions.csv, in file order.

        Raises:
            FileNotFoundError: there is no predictions.csv.
            ValueError: it is damaged, or names images that the recipe's data does not hold.
        """
        samples = {(sample.dataset, sample.stem, sample.key): sample for sample in self.run.splits.tested}
        path = self.run.predictions
        found: dict[str, list[Row]] = {name: [] for name in self.run.splits.test}
        for line in read_rows(path, digest=self.metrics.get(PREDICTIONS)):
            name, stem, key = (line.pop(column) for column in ("dataset", "stem", "key"))
            if (name, stem, key) not in samples:
                raise ValueError(f"{path} scores {name}/{stem}, which is not in the recipe's data, or no longer is")
            row = Row(samples[name, stem, key], {column: float(value) for column, value in line.items()})
            found.setdefault(name, []).append(row)
        return {name: rows for name, rows in found.items() if rows}

    @cached_property
    def targets(self) -> list[tuple[str, str, str, int]]:
        """The targets that the student imitated, as (teacher, map, band, stride), without soft masks."""
        names = [name.rsplit("/", 3) for name in self.training.get("targets", [])]
        return [(teacher, map_, band, int(stride)) for teacher, map_, band, stride in names if map_ != MASK]


def share_of(row: Row) -> float:
    """The share of an image that its mask covers; computed from the mask if an older predictions.csv lacks it."""
    if not math.isnan(known := row.figures.get(SHARE, math.nan)):
        return known
    return float((without_void(row.sample.read_mask()) > 0).mean())


def starts_of_equal_parts(items: list[Row], count: int) -> Iterator[Row]:
    """The first item of each of `count` equal parts of the list; all items if there are no more than `count`."""
    step = max(1.0, len(items) / count)
    return (items[int(place * step)] for place in range(min(count, len(items))))
