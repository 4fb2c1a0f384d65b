"""Comparison of stored scores: the table and verdicts for runs made here, on other machines or by others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from distill.comparison.result import Comparison, Key, compare_scores
from distill.comparison.scores_csv import read_scores
from distill.comparison.write import markdown, write
from distill.config.schema_training import EvaluateRecipe
from distill.evaluation.predictions_csv import Score
from distill.metrics.overlap import CONVENTION


def compare_files(
    paths: Sequence[Path],
    *,
    arms: Sequence[str] | None = None,
    students: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    datasets: Sequence[str] | None = None,
    out: Path | None = None,
) -> tuple[Comparison, str]:
    """Compares the runs in tables of scores as `compare` compares its own; figures of training are not known.

    Args:
        paths: of tables with the columns of scores.csv, each with some runs of one comparison.
        arms: only these, in this order; by default all, in the order of the files. The first is the control.
        students: only these.
        seeds: only these.
        datasets: only these.
        out: folder for compare.json, compare.md, compare.png and scores.csv; by default nothing is written.

    Returns:
        the result, and its table as Markdown.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a table is malformed, the runs cannot be compared, or a table lies in `out`.
    """
    if out is not None and (inside := [path for path in paths if path.resolve().parent == out.resolve()]):
        raise ValueError(f"{inside[0]} lies in out={out}, whose files would be replaced; name another folder")
    scores = choose(read_scores(paths, datasets=datasets), arms=arms, students=students, seeds=seeds)
    comparison = compare_scores(scores, resamples=EvaluateRecipe().bootstrap)
    comparison = dataclasses.replace(comparison, convention=f"as in the files; compare writes it {CONVENTION}")
    title = paths[0].resolve().parent.name if paths[0].stem == "scores" else paths[0].stem
    if out is None:
        return comparison, markdown(comparison, title=title)
    return comparison, write(comparison, scores, out, title=title)


def choose(
    scores: Mapping[Key, Sequence[Score]],
    *,
    arms: Sequence[str] | None,
    students: Sequence[str] | None,
    seeds: Sequence[int] | None,
) -> dict[Key, Sequence[Score]]:
    """The runs of these arms, students and seeds, by arm.

    Raises:
        ValueError: there is no such arm, student or seed, fewer than two arms remain, or a run is missing.
    """
    asked: list[list[Any]] = []
    for place, (what, only) in enumerate((("arm", arms), ("student", students), ("seed", seeds))):
        there = list(dict.fromkeys(key[place] for key in scores))
        for name in only or ():
            if name not in there:
                raise ValueError(f"the tables have no {what} {name!r}; choose from {', '.join(map(str, there))}")
        asked.append(list(dict.fromkeys(only or there)))
    if len(asked[0]) < 2:
        raise ValueError(f"compare needs at least two arms, but there is only {', '.join(asked[0]) or 'none'}")
    keys: list[Key] = list(product(*asked))
    for arm, student, seed in keys:
        if (arm, student, seed) not in scores:
            of = f" and student {student!r}" if student or len(asked[1]) > 1 else ""
            raise ValueError(
                f"arm {arm!r}{of} has no scores with seed {seed}, but another run has; every arm needs every "
                "student and seed (arms=, students= and seeds= select some)"
            )
    return {key: scores[key] for key in keys}
