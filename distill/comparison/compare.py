"""Did the teacher help? The recipe's arms over students and seeds, on the same data, order and number of steps."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import release_memory

import cache
from distill.comparison.launcher import missing_of, run_missing
from distill.comparison.plot import plot
from distill.comparison.runs import (
    Trial,
    finished_of,
    summary_of,
    trials_of,
    with_finished_settings,
)
from distill.comparison.statistics import Comparison, Curve, compare_scores, markdown
from distill.config.schema import Recipe
from distill.evaluation.predictions_csv import Score, read_predictions
from distill.extraction.extract import extract
from distill.metrics.overlap import CONVENTION, CONVENTION_SEVERAL
from distill.runs.fingerprint import digest_of
from distill.runtime.io import write_json, write_text
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
    """Runs what is missing of a comparison, and says what it shows.

    Where the recipe has a `sweep`, every arm first tries each of these settings with the first seed, and goes on with
    the one of the best validation Dice; that run is also its run of the first seed.

    Args:
        recipe: with at least two `arms`; the first is the control.
        students: names of students; the recipe's own where not given.
        seeds: of weights, data order and augmentation; the same for every arm.
        jobs: runs at once, each on its share of the cores; 0 runs nothing and compares what is finished.
        out: folder for compare.json, compare.md and compare.png; under `home` where not given.

    Raises:
        ValueError: the arms cannot be compared, or with `jobs=0` there is nothing yet.
        RuntimeError: a run failed; the others are kept.
    """
    students = list(students or [recipe.student.name])
    if jobs == 0:
        recipe = with_finished_settings(recipe, students=students, seed=seeds[0])
    tried = trials_of(recipe, students=students, seeds=seeds[:1])
    logger.info(
        "comparing arms %s; students %s; seeds %s%s",
        ", ".join(recipe.arms),
        ", ".join(students),
        ", ".join(map(str, seeds)),
        f"; every arm tries {', '.join(recipe.sweep)} with seed {seeds[0]}" if recipe.sweep else "",
    )
    forwards: dict[Path, int] = {}
    tuning: dict[tuple[str, str], dict[str, float]] = {}
    if recipe.sweep:
        if jobs:
            do_missing(tried, jobs=jobs, verbs=("train",), forwards=forwards)
        for trial in tried:
            tuning.setdefault((trial.arm, trial.student), {})[trial.setting] = summary_of(trial)["validation_dice"]
    chosen = {key: max(figures, key=figures.__getitem__) for key, figures in tuning.items()}
    trials = trials_of(recipe, students=students, seeds=seeds, settings=chosen)
    if shared := {trial.run.folder.name for trial in trials if trial.run.recipe.name != recipe.name}:
        logger.info("other comparisons asked for the same, and have it already: %s", ", ".join(sorted(shared)))
    if jobs:
        do_missing(trials, jobs=jobs, verbs=("train", "evaluate"), forwards=forwards)
    else:
        trials = finished_of(trials)
    scores = {(trial.arm, trial.student, trial.seed): scores_of(trial) for trial in trials}
    summaries = {(trial.arm, trial.student, trial.seed): summary_of(trial) for trial in trials}
    comparison = compare_scores(
        scores,
        seconds={key: value["seconds"] for key, value in summaries.items()},
        steps={value["steps"] for value in summaries.values()},
        resamples=recipe.evaluate.bootstrap,
        tuning=tuning,
        networks={(trial.arm, trial.student): trial.run.recipe.student.name for trial in trials},
    )
    collapsed = tuple(f"{trial.title}, {one}" for trial in trials for one in summary_of(trial).get("collapsed", ()))
    comparison = dataclasses.replace(
        comparison,
        collapsed=collapsed,
        validation=curves_of(trials),
        convention=CONVENTION if recipe.student.classes == 1 else CONVENTION_SEVERAL,
    )
    name = f"{recipe.name}-{digest_of([trial.run.folder.name for trial in trials])[:12]}"
    folder = out or Path(recipe.home).expanduser() / "compare" / name
    looked = {path.name: len(cache.open(path)) for path in caches_of(trials) if cache.exists(path)}
    write(comparison, folder, title=recipe.name, forwards=sum(forwards.values()), looked=looked)
    return comparison


def scores_of(trial: Trial) -> list[Score]:
    """What a tested run scored on every test image, with the sequence that each comes from."""
    tested = [sample for part in trial.run.splits.test.values() for sample in part]
    groups = {(sample.dataset, sample.key): sample.group for sample in tested}
    return [
        dataclasses.replace(score, group=groups.get((score.dataset, score.key)))
        for score in read_predictions(trial.run.folder / "predictions.csv")
    ]


def curves_of(trials: Sequence[Trial]) -> tuple[Curve, ...]:
    """Validation over the steps of every arm, from the logs of its runs; of those that have one, at common steps."""
    curves = []
    for arm, student in dict.fromkeys((trial.arm, trial.student) for trial in trials):
        mine = [trial for trial in trials if (trial.arm, trial.student) == (arm, student)]
        scores = [read_validation(trial.run.folder / "log.jsonl") for trial in mine]
        steps = sorted(set.intersection(*map(set, scores)))
        if steps:
            curves.append(
                Curve(student, arm, tuple(steps), tuple(tuple(one[step] for step in steps) for one in scores))
            )
    return tuple(curves)


def do_missing(trials: Sequence[Trial], *, jobs: int, verbs: Sequence[str], forwards: dict[Path, int]) -> None:
    """Runs what is missing of these, after filling the caches that it learns from.

    Args:
        trials: of one phase of the comparison.
        jobs: runs at once.
        verbs: what is to be done for each.
        forwards: cache -> images that a teacher looked at for it in this call; caches that stand here are full.
    """
    for trial in missing_of(trials, verbs=verbs):
        if not forwards.keys() >= set(trial.run.caches.values()):
            for name, images in extract(trial.run).items():
                forwards[trial.run.caches[name]] = images
    release_memory()  # a GPU that a teacher has left is for those who train now
    run_missing(trials, jobs=jobs, verbs=verbs)


def caches_of(trials: Sequence[Trial]) -> list[Path]:
    """The folders of all caches that these learn from."""
    return list(dict.fromkeys(path for trial in trials for path in trial.run.caches.values()))


def write(comparison: Comparison, folder: Path, *, title: str, forwards: int, looked: Mapping[str, int]) -> None:
    """compare.json, compare.md and compare.png.

    Args:
        comparison: what it showed.
        folder: for the three files.
        title: of table and picture.
        forwards: images that went through a teacher in this call.
        looked: name of each cache -> views that it holds, each of which a teacher has looked at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entry: dict[str, Any] = {
        "teacher_forwards": forwards,
        "cached_views": dict(looked),
        **dataclasses.asdict(comparison),
    }
    write_json(folder / "compare.json", entry)
    views = ", ".join(f"{count:,} ({name})" for name, count in looked.items())
    learned = f"Views that the taught runs learn from, each looked at once by its teacher: {views}. " if views else ""
    text = f"{markdown(comparison, title=title)}\n{learned}In the last call {forwards} images went through a teacher.\n"
    write_text(folder / "compare.md", text)
    plot(comparison, folder / "compare.png", title=title)
    logger.info("%s\nwritten to %s", text, folder)
