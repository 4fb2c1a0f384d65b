"""Comparing kept scores: the table and the verdicts of runs that were made here, on other machines or by others."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from distill.comparison.result import Comparison, Key, compare_scores
from distill.comparison.scores_csv import read_scores
from distill.comparison.write import markdown, write
from distill.config.schema_training import EvaluateRecipe
from distill.evaluation.predictions_csv import Score
from distill.metrics.overlap import CONVENTION

logger = logging.getLogger("bandpass")


def compare_files(
    paths: Sequence[Path],
    *,
    arms: Sequence[str] | None = None,
    students: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    out: Path | None = None,
) -> Comparison:
    """Judges the runs in tables of scores as `compare` judges its own; figures of training are not known.

    Args:
        paths: of tables with the columns of scores.csv, each with some runs of one comparison.
        arms: only these, in this order; all in the files' order where not given. The first is the control.
        students: only these.
        seeds: only these.
        out: folder for compare.json, compare.md, compare.png and scores.csv; nothing is written where not given.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a table is wrong, or the runs cannot be compared.
    """
    scores = choose(read_scores(paths), arms=arms, students=students, seeds=seeds)
    comparison = compare_scores(scores, resamples=EvaluateRecipe().bootstrap)
    comparison = dataclasses.replace(comparison, convention=f"as the files have it (compare writes it {CONVENTION})")
    title = paths[0].resolve().parent.name if paths[0].stem == "scores" else paths[0].stem
    if out is None:
        logger.info(markdown(comparison, title=title))
    else:
        logger.info("%s\nwritten to %s", write(comparison, scores, out, title=title), out)
    return comparison


def choose(
    scores: Mapping[Key, Sequence[Score]],
    *,
    arms: Sequence[str] | None,
    students: Sequence[str] | None,
    seeds: Sequence[int] | None,
) -> dict[Key, Sequence[Score]]:
    """The runs of these arms, students and seeds, by arm.

    Raises:
        ValueError: there is no such arm, student or seed, fewer than two arms remain, or an arm lacks a seed.
    """
    for place, (what, names) in enumerate((("arm", arms), ("student", students), ("seed", seeds))):
        there = list(dict.fromkeys(key[place] for key in scores))
        for name in names or ():
            if name not in there:
                raise ValueError(f"the files have no {what} {name!r}; choose from {', '.join(map(str, there))}")
    kept = {
        key: part
        for key, part in scores.items()
        if (not students or key[1] in students) and (not seeds or key[2] in seeds)
    }
    names = list(arms or dict.fromkeys(arm for arm, _, _ in kept))
    if len(names) < 2:
        raise ValueError(f"compare needs at least two arms, and there is only {', '.join(names) or 'none'}")
    require_equal_seeds(key for key in kept if key[0] in names)
    return {key: part for name in names for key, part in kept.items() if key[0] == name}


def require_equal_seeds(runs: Iterable[Key]) -> None:
    """Raises ValueError unless each arm and student has every seed: differences are taken seed by seed."""
    runs = set(runs)
    for arm, student in sorted({key[:2] for key in runs}):
        if missing := sorted({seed for _, _, seed in runs if (arm, student, seed) not in runs}):
            raise ValueError(
                f"arm {arm!r}{f' of {student}' if student else ''} has no scores with seed "
                f"{', '.join(map(str, missing))}, but another has; name seeds that all have in seeds="
            )
