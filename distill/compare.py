"""Did the teacher help? The recipe's arms over students and seeds, on the same data, order and number of steps."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.comparison import Comparison, compare_scores, markdown, plot
from distill.digest import digest_of
from distill.evaluate import is_evaluated, read_predictions
from distill.extract import extract
from distill.files import write_json, write_text
from distill.grammar import build_recipe, dump_recipe, parse_overrides, read_recipe
from distill.job import Job, open_job, start_accelerator
from distill.progress import clock
from distill.recipe import Recipe
from distill.run import usable_cores

TAIL_LINES = 5  # of a failed run's output, in the error

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Trial:
    """One run of a comparison: an arm, a student, a seed."""

    arm: str
    student: str
    seed: int
    job: Job

    @property
    def title(self) -> str:
        """`taught unet seed 0`."""
        return f"{self.arm} {self.student} seed {self.seed}"


def trials_of(recipe: Recipe, *, students: Sequence[str], seeds: Sequence[int]) -> list[Trial]:
    """Every run of a comparison, seeds outermost so that what is finished first can be compared.

    Raises:
        ValueError: the recipe has fewer than two arms, or an arm changes what must be equal.
    """
    if len(recipe.arms) < 2:
        raise ValueError("compare needs a recipe with at least two arms, as in arms: {alone: {...}, taught: {}}")
    accelerator = start_accelerator(recipe)
    if accelerator.num_processes > 1:
        raise ValueError("start compare without a launcher; jobs=N runs N of its trainings at once")
    base = {**dataclasses.asdict(recipe), "do": ["train", "evaluate"], "arms": {}}
    trials = []
    for seed in dict.fromkeys(seeds):
        for student in students:
            for arm, overrides in recipe.arms.items():
                layer = {"seed": seed, "student": {"name": student}}
                own = build_recipe(base, layer, overrides or {})
                trials.append(Trial(arm, student, seed, open_job(own, accelerator=accelerator)))
                epochs = [sum(s.epochs for s in r.stages.values()) for r in (recipe, own)]
                if epochs[0] != epochs[1] or recipe.optimiser.batch_size != own.optimiser.batch_size:
                    raise ValueError(
                        f"arm {arm!r} trains {epochs[1]} epochs of batch {own.optimiser.batch_size}, but the recipe "
                        f"{epochs[0]} of {recipe.optimiser.batch_size}; a fair comparison has equal steps"
                    )
    return trials


def compare(
    recipe: Recipe,
    *,
    students: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    jobs: int = 1,
    out: Path | None = None,
) -> Comparison:
    """Runs what is missing of a comparison, and says what it shows.

    Args:
        recipe: with at least two `arms`; the first is the control.
        students: names of students; the recipe's own where not given.
        seeds: of weights, data order and augmentation; the same for every arm.
        jobs: runs at once, each on its share of the cores.
        out: folder for compare.json, compare.md and compare.png; under `home` where not given.

    Raises:
        ValueError: the arms cannot be compared.
        RuntimeError: a run failed; the others are kept.
    """
    students = list(students or [recipe.student.name])
    trials = trials_of(recipe, students=students, seeds=seeds)
    logger.info(
        "comparing %d runs: arms %s; students %s; seeds %s",
        len(trials),
        ", ".join(recipe.arms),
        ", ".join(students),
        ", ".join(map(str, seeds)),
    )
    forwards = sum(sum(extract(trial.job).values()) for trial in first_of_each_cache(trials))
    run_missing(trials, jobs=jobs)
    scores = {
        (trial.arm, trial.student, trial.seed): read_predictions(trial.job.folder / "predictions.csv")
        for trial in trials
    }
    summaries = {
        (trial.arm, trial.student, trial.seed): json.loads((trial.job.folder / "train.json").read_text())
        for trial in trials
    }
    comparison = compare_scores(
        scores,
        seconds={key: value["seconds"] for key, value in summaries.items()},
        steps={value["steps"] for value in summaries.values()},
        resamples=recipe.evaluate.bootstrap,
    )
    name = f"{recipe.name}-{digest_of([trial.job.folder.name for trial in trials])[:12]}"
    folder = out or Path(recipe.home).expanduser() / "compare" / name
    write(comparison, folder, title=recipe.name, forwards=forwards)
    return comparison


def first_of_each_cache(trials: Sequence[Trial]) -> list[Trial]:
    """One trial for each set of caches that any trial learns from."""
    chosen: dict[tuple[Path, ...], Trial] = {}
    for trial in trials:
        if trial.job.recipe.imitates:
            chosen.setdefault(tuple(trial.job.caches.values()), trial)
    return list(chosen.values())


def run_missing(trials: Sequence[Trial], *, jobs: int) -> None:
    """Runs the trials that have no predictions yet, `jobs` at a time, each in a process of its own.

    Raises:
        RuntimeError: some failed; each is named with the end of its output.
    """
    missing = [trial for trial in trials if not is_evaluated(trial.job)]
    if len(missing) < len(trials):
        logger.info("%d of %d runs are there already", len(trials) - len(missing), len(trials))
    began = time.monotonic()
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        for done, (trial, error) in enumerate(pool.map(lambda t: (t, run_trial(t, jobs=jobs)), missing), start=1):
            if error:
                failed.append(f"{trial.title}: {error}")
            passed = time.monotonic() - began
            logger.info(
                "compare %d/%d runs, %s%s, %s left",
                done,
                len(missing),
                trial.title,
                " FAILED" if error else "",
                clock(passed / done * (len(missing) - done)),
            )
    if failed:
        raise RuntimeError(
            "runs failed, the others are kept; the same command runs what is missing\n" + "\n".join(failed)
        )


def run_trial(trial: Trial, *, jobs: int) -> str:
    """Runs one trial in a process of its own; returns the end of its output if it failed, else nothing."""
    folder = trial.job.folder
    write_text(folder / "recipe.yaml", dump_recipe(trial.job.recipe))
    output = folder / "output.txt"
    threads = max(1, usable_cores() // jobs)
    with output.open("a", encoding="utf-8") as stream:
        finished = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("run.py")), f"recipe={folder / 'recipe.yaml'}"],
            env={**os.environ, "BANDPASS_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)},
            stdout=stream,
            stderr=stream,
            check=False,
        )
    if finished.returncode == 0:
        return ""
    tail = output.read_text(encoding="utf-8").splitlines()[-TAIL_LINES:]
    return f"exit {finished.returncode}, {output}: " + " | ".join(tail)


def write(comparison: Comparison, folder: Path, *, title: str, forwards: int) -> None:
    """compare.json, compare.md and compare.png."""
    folder.mkdir(parents=True, exist_ok=True)
    entry: dict[str, Any] = {"teacher_forwards": forwards, **dataclasses.asdict(comparison)}
    write_json(folder / "compare.json", entry)
    text = markdown(comparison, title=title)
    write_text(folder / "compare.md", text)
    plot(comparison, folder / "compare.png", title=title)
    logger.info("%s\nwritten to %s", text, folder)


def compare_command(words: Sequence[str], *, dry: bool) -> int:
    """`distill compare recipe=NAME [students=X,Y] [seeds=0,1,2] [jobs=N] [out=DIR] [key=value ...]`."""
    own = {"students", "seeds", "jobs", "out"}
    mine = parse_overrides([word for word in words if word.partition("=")[0] in own])
    recipe = read_recipe([word for word in words if word.partition("=")[0] not in own])
    seeds = mine.get("seeds", [0, 1, 2])
    students = mine.get("students")
    chosen = [students] if isinstance(students, str) else students
    seeds = [seeds] if isinstance(seeds, int) else seeds
    if dry:
        for trial in trials_of(recipe, students=chosen or [recipe.student.name], seeds=seeds):
            logger.info("%s in %s", trial.title, trial.job.folder)
        return 0
    out = mine.get("out")
    compare(recipe, students=chosen, seeds=seeds, jobs=int(mine.get("jobs", 1)), out=Path(out) if out else None)
    return 0
