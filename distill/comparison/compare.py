"""Comparison of the recipe's arms over students and seeds, with the same data, order and number of steps."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import release_memory

import cache
from distill.comparison.launcher import advice_on_jobs, missing_of, run_missing
from distill.comparison.plan import Tuning, finished_of, plan_comparison, tuning_of
from distill.comparison.result import Comparison, Curve, Key, compare_scores
from distill.comparison.runs import ArmRun, best_of
from distill.comparison.write import Extracted, write
from distill.config.command import command_to_predict
from distill.config.schema import Recipe
from distill.evaluation.predictions_csv import Score
from distill.evaluation.results import read_scores
from distill.metrics.overlap import CONVENTION, CONVENTION_SEVERAL
from distill.runs.fingerprint import digest_of
from distill.runs.run import LOG
from distill.runs.steps import do_step
from distill.runtime.threads import advice_beside_others
from distill.training.jsonl_log import read_validation

logger = logging.getLogger("bandpass")


def compare(
    recipe: Recipe,
    *,
    students: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    jobs: int = 1,
    out: Path | None = None,
) -> Comparison:
    """Does the missing runs of a comparison and writes its result.

    If the recipe has a `sweep`, every arm first tries each of its settings with the first seed, and continues with the
    one that validates best (`evaluate.select`); that run is also the arm's run of the first seed.

    Args:
        recipe: with at least two `arms`; the first is the control.
        students: names of students; by default the recipe's own.
        seeds: of weights, data order and augmentation; the same for every arm.
        jobs: number of concurrent runs, each on its share of the cores; 0 runs nothing and compares what is finished.
        out: folder for compare.json, compare.md, compare.png and scores.csv; by default under `home`.

    Raises:
        ValueError: the arms cannot be compared, or with `jobs=0` nothing is finished yet.
        RuntimeError: a run failed; the others are kept.
    """
    plan = plan_comparison(recipe, students=students, seeds=seeds)
    logger.info(plan.describe())
    if not jobs:
        plan = plan.swept()
    elif jobs == 1:
        device, untrained = plan.runs[0].run.accelerator.device, missing_of(plan.runs, verbs=("train",))
        if advice := advice_beside_others(device) or advice_on_jobs(device, runs=len(untrained)):
            logger.info(advice)
    forwards: dict[Path, int] = {}  # cache -> images that went through a teacher for it
    do_missing(plan.sweep, jobs=jobs, verbs=("train",), forwards=forwards)
    tuning = tuning_of(plan.sweep)
    runs = plan.chosen(tuning)
    do_missing(runs, jobs=jobs, verbs=("train", "evaluate"), forwards=forwards)
    if not jobs:
        runs = finished_of(runs)
    log_shared(runs, recipe)
    scores = {one.key: read_scores(one.run) for one in runs}
    comparison = summarise(runs, recipe, scores=scores, tuning=tuning)
    name = f"{recipe.name}-{digest_of([one.run.folder.name for one in runs])[:12]}"
    folder = (out or Path(recipe.home) / "compare" / name).expanduser()
    cached = {shown(path, recipe): len(cache.open(path)) for path in caches_of(runs) if cache.exists(path)}
    extracted = Extracted(sum(forwards.values()), cached)
    text = write(comparison, scores, folder, title=recipe.name, extracted=extracted)
    logger.info("%s\nwritten to %s", text, folder)
    log_next(runs, recipe.evaluate.select)
    return comparison


def shown(path: Path, recipe: Recipe) -> str:
    """A cache as published results name it: by its path within the recipe's home, or else by its whole path."""
    home = Path(recipe.home).expanduser()
    return str(path.relative_to(home) if path.is_relative_to(home) else path)


def do_missing(runs: Sequence[ArmRun], *, jobs: int, verbs: Sequence[str], forwards: dict[Path, int]) -> None:
    """Does `verbs` for the runs that lack them, after filling the caches on which they are trained.

    Args:
        runs: of one phase of the comparison.
        jobs: number of concurrent runs; 0 does nothing.
        verbs: to be done for each run.
        forwards: cache -> number of images that went through a teacher for it; updated by this phase.
    """
    if not jobs:
        return
    for one in missing_of(runs, verbs=verbs):
        if not forwards.keys() >= set(one.run.caches.values()):
            found = do_step("extract", one.run)
            for name, images in found.items():
                folder = one.run.caches[name]
                forwards[folder] = forwards.get(folder, 0) + images
    release_memory()  # so that the runs have the GPU memory that a teacher has used
    run_missing(runs, jobs=jobs, verbs=verbs)


def log_shared(runs: Sequence[ArmRun], recipe: Recipe) -> None:
    """Logs the names of finished runs that are reused from other comparisons."""
    if shared := {one.run.folder.name for one in runs if one.run.recipe.name != recipe.name}:
        logger.info("reused from other comparisons: %s", ", ".join(sorted(shared)))


def log_next(runs: Sequence[ArmRun], select: str) -> None:
    """Logs the commands that publish and use the run with the best validation figure; test sets are not consulted."""
    best = runs[best_of(dict(enumerate(one.validated for one in runs)), select)]
    folder = shlex.quote(str(best.run.folder))
    logger.info("best on validation: %s", best.title)
    logger.info("next: distill publish recipe=%s/recipe.yaml", folder)
    logger.info("next: %s", command_to_predict(best.run.folder, best.run.recipe.student.name))


def summarise(
    runs: Sequence[ArmRun], recipe: Recipe, *, scores: Mapping[Key, Sequence[Score]], tuning: Tuning
) -> Comparison:
    """The result of finished runs, from their scores, logs and summaries."""
    summaries = {one.key: one.run.read_summary() for one in runs}
    logs = {one.key: read_validation(one.run.folder / "log.jsonl", digest=summaries[one.key].get(LOG)) for one in runs}
    require_equal_processes({one.title: summaries[one.key] for one in runs})
    comparison = compare_scores(
        scores,
        seconds={key: summary["seconds"] for key, summary in summaries.items()},
        steps={summary["steps"] for summary in summaries.values()},
        resamples=recipe.evaluate.bootstrap,
        tuning=tuning,
        networks={(one.arm, one.student): one.run.recipe.student.name for one in runs},
    )
    return dataclasses.replace(
        comparison,
        collapsed=tuple(f"{one.title}, {name}" for one in runs for name in summaries[one.key].get("collapsed", ())),
        validation=curves_of(logs),
        select=recipe.evaluate.select,
        convention=CONVENTION if recipe.student.classes == 1 else CONVENTION_SEVERAL,
    )


def require_equal_processes(summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError if runs were trained by different numbers of processes, which changes batch norm.

    `summaries` are the contents of train.json of each run, by title.
    """
    counts = {title: summary.get("processes", 1) for title, summary in summaries.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            "expected all runs to be trained by the same number of processes, got "
            + ", ".join(f"{count} ({title})" for title, count in counts.items())
            + "; move away the folders of the runs with another number, and train those again"
        )


def curves_of(logs: Mapping[Key, Mapping[int, float]]) -> tuple[Curve, ...]:
    """Validation Dice of every arm at the steps that all its seeds share; `logs` holds step -> Dice of each run."""
    curves = []
    for arm, student in dict.fromkeys(key[:2] for key in logs):
        mine = [log for key, log in logs.items() if key[:2] == (arm, student)]
        if steps := tuple(sorted(set.intersection(*map(set, mine)))):
            curves.append(Curve(student, arm, steps, tuple(tuple(log[step] for step in steps) for log in mine)))
    return tuple(curves)


def caches_of(runs: Sequence[ArmRun]) -> list[Path]:
    """The folders of all caches on which these runs are trained."""
    return list(dict.fromkeys(path for one in runs for path in one.run.caches.values()))
