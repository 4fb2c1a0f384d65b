"""scores.csv: the Dice of every image in every run of a comparison, from which anyone can repeat it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from sys import intern

import numpy as np

from distill.comparison.result import Key
from distill.evaluation.predictions_csv import Score, write_predictions

NEEDED = ("arm", "seed", "dataset", "stem", "dice")  # the other columns may be left out, or empty
DECIMALS = 6

Image = tuple[str, str]  # data set, stem


def write_scores(path: Path, scores: Mapping[Key, Sequence[Score]]) -> None:
    """Writes one line per image and run, in the order of the runs."""
    write_predictions(path, lines_of(scores))


def lines_of(scores: Mapping[Key, Sequence[Score]]) -> Iterator[dict[str, str | float]]:
    """Yields each line as column -> value; the group and the share under the mask are empty if they are not known."""
    for (arm, student, seed), part in scores.items():
        for score in part:
            yield {
                "arm": arm,
                "student": student,
                "seed": seed,
                "dataset": score.dataset,
                "stem": score.stem,
                "group": score.group or "",
                "share": "" if score.share is None else float(f"{score.share:.{DECIMALS}g}"),
                "dice": round(score.dice, DECIMALS),
            }


def read_scores(paths: Sequence[Path], *, datasets: Sequence[str] | None = None) -> dict[Key, list[Score]]:
    """The scores of every run in these files, which may hold different arms, students or seeds of one comparison.

    An image's group and share, if given in any line, hold for that image in all runs.

    Args:
        paths: of tables with the columns of scores.csv.
        datasets: only these, in this order; by default all.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is not such a table, a run has an image twice, or lines disagree on an image.
    """
    found: dict[Key, dict[Image, float]] = {}
    groups: dict[Image, str] = {}
    shares: dict[Image, float] = {}
    for path in paths:
        rows = list(numbered_rows(path))
        if not rows:
            raise ValueError(f"{path} has no lines below its header")
        for number, row in rows:
            where = f"{path}, line {number}"
            image = (intern(row["dataset"]), intern(row["stem"]))
            run = found.setdefault((row["arm"], row.get("student") or "", whole(row["seed"], where)), {})
            if image in run:
                raise ValueError(f"{where}: {row['arm']} with seed {row['seed']} has {'/'.join(image)} twice")
            run[image] = fraction(row, "dice", where)
            if (group := row.get("group")) and groups.setdefault(image, group) != group:
                raise ValueError(f"{where}: {'/'.join(image)} is in group {group}, but in {groups[image]} before")
            if row.get("share"):
                share = fraction(row, "share", where)
                if (shares.setdefault(image, share) == 0) != (share == 0):
                    raise ValueError(f"{where}: the mask of {'/'.join(image)} is empty in one line but not in another")
    there = list(dict.fromkeys(dataset for run in found.values() for dataset, _ in run))
    for name in datasets or ():
        if name not in there:
            raise ValueError(f"the tables have no dataset {name!r}; choose from {', '.join(there)}")
    return {
        key: [
            Score(*image, "", dice, np.nan, group=groups.get(image), share=shares.get(image))
            for dataset in datasets or there
            for image, dice in run.items()
            if image[0] == dataset
        ]
        for key, run in found.items()
    }


def numbered_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The numbered lines of a table that has the columns `NEEDED`; errors as of `read_scores`."""
    if not path.is_file():
        raise FileNotFoundError(f"no scores at {path}; compare writes scores.csv beside compare.md")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            names = list(rows.fieldnames or ())
            if missing := [name for name in NEEDED if name not in names]:
                parted = "; its columns are separated by semicolons" if ";" in "".join(names) else ""
                raise ValueError(f"{path} has no column {', '.join(missing)}; expected {', '.join(NEEDED)}{parted}")
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{path} has the column {twice[0]} twice")
            for row in rows:
                if None in row or None in row.values():
                    raise ValueError(f"{path}, line {rows.line_num}: expected {len(names)} values")
                yield rows.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error


def whole(text: str, where: str) -> int:
    """A seed."""
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{where}: seed is {text!r}, but must be a whole number") from error


def fraction(row: Mapping[str, str], column: str, where: str) -> float:
    """A value in [0, 1]."""
    try:
        value = float(row[column])
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise ValueError(f"{where}: {column} is {row[column]!r}, but must be a number in [0, 1]")
    return value
