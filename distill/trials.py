"""The runs of a comparison: which there are, whether they are fair to one another, and doing those that are missing."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill.evaluate import is_evaluated
from distill.files import write_text
from distill.grammar import build_recipe, dump_recipe
from distill.job import Job, open_job, start_accelerator
from distill.prepare import check
from distill.processors import usable_cores
from distill.progress import clock
from distill.recipe import Recipe
from distill.schedule import spans_of

TAIL_LINES = 5  # of a failed run's output, in the error

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Trial:
    """One run of a comparison: an arm, a student, a seed, perhaps a setting that is tried."""

    arm: str
    student: str
    seed: int
    job: Job
    setting: str = ""

    @property
    def title(self) -> str:
        """`taught unet seed 0`, and the setting in brackets."""
        return f"{self.arm} {self.student} seed {self.seed}" + (f" ({self.setting})" if self.setting else "")

    @property
    def steps(self) -> int:
        """Steps of training."""
        splits = self.job.splits
        return spans_of(self.job.recipe, labelled=len(splits.train), unlabelled=len(splits.unlabelled))[-1].stop


Settings = dict[tuple[str, str], str]  # arm, student -> name of the setting that was chosen for it


def choose_arms(recipe: Recipe, names: Sequence[str] | None) -> Recipe:
    """The recipe with the named arms only, in the order given.

    Raises:
        ValueError: the recipe has no such arm.
    """
    for name in names or ():
        if name not in recipe.arms:
            raise ValueError(f"the recipe has no arm {name!r}; choose from {', '.join(recipe.arms)}")
    return replace(recipe, arms={name: recipe.arms[name] for name in names}) if names else recipe


def trials_of(
    recipe: Recipe, *, students: Sequence[str], seeds: Sequence[int], settings: Settings | None = None
) -> list[Trial]:
    """Every run of a comparison, seeds outermost so that what is finished first can be compared.

    Args:
        recipe: with its arms.
        students: names of students.
        seeds: of weights, data order and augmentation.
        settings: those chosen of `recipe.trials`; where not given, every arm with every one of them.

    Raises:
        ValueError: the recipe has fewer than two arms, or an arm changes what must be equal.
    """
    if len(recipe.arms) < 2:
        raise ValueError("compare needs a recipe with at least two arms, as in arms: {alone: {...}, taught: {}}")
    accelerator = start_accelerator(recipe)
    if accelerator.num_processes > 1:
        raise ValueError("start compare without a launcher; jobs=N runs N of its trainings at once")
    base = {**dataclasses.asdict(recipe), "do": ["train", "evaluate"], "arms": {}, "trials": {}}
    trials: list[Trial] = []
    for seed in dict.fromkeys(seeds):
        for student in students:
            for arm, overrides in recipe.arms.items():
                names = list(recipe.trials or [""]) if settings is None else [settings.get((arm, student), "")]
                for name in names:
                    layers = [
                        {"seed": seed, "student": {"name": student}},
                        overrides or {},
                        recipe.trials.get(name, {}),
                    ]
                    own = build_recipe(base, *layers)
                    if "encoder" in (overrides or {}).get("student", {}) and own.student.encoder is None:
                        raise ValueError(f"arm {arm!r} has a pretrained encoder, but its student.encoder is empty")
                    job = open_job(own, accelerator=accelerator)
                    check(job)
                    trials.append(Trial(arm, student, seed, job, name))
                    require_fair(trials[0], trials[-1])
    return trials


def require_fair(first: Trial, other: Trial) -> None:
    """Raises ValueError unless two runs train for the same number of steps of the same size."""
    batches = [trial.job.recipe.optimiser.batch_size for trial in (first, other)]
    if first.steps != other.steps or batches[0] != batches[1]:
        raise ValueError(
            f"arm {other.arm!r} trains {other.steps} steps of {batches[1]} images, but arm {first.arm!r} {first.steps} "
            f"of {batches[0]}; a fair comparison has equal steps (stages.NAME.steps sets them)"
        )
    if first.job.recipe.evaluate.every != other.job.recipe.evaluate.every:
        raise ValueError(f"arm {other.arm!r} has an evaluate.every of its own, but the best of more scores is better")
    if other.job.recipe.evaluate.patience:
        raise ValueError("evaluate.patience ends a stage early, but a fair comparison has equal steps; set it to 0")


def summary_of(trial: Trial) -> dict[str, Any]:
    """The train.json of a finished run."""
    return json.loads(trial.job.trained.read_text(encoding="utf-8"))


def with_finished_settings(recipe: Recipe, *, students: Sequence[str], seed: int) -> Recipe:
    """The recipe with those arms only that have tried every setting of its trials; says which are left out.

    Raises:
        ValueError: the first arm has not, or no other.
    """
    if not recipe.trials:
        return recipe
    tried = trials_of(recipe, students=students, seeds=[seed])
    unfinished = {trial.arm for trial in tried if not trial.job.trained.is_file()}
    return replace(recipe, arms=without(recipe.arms, unfinished, why="not every setting is tried yet"))


def finished_of(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that can be compared now: seeds of which the first arm is tested, arms that have all of these seeds.

    Raises:
        ValueError: there is no such seed, or no other arm.
    """
    tested = {(trial.arm, trial.student, trial.seed) for trial in trials if is_evaluated(trial.job)}
    students, control = {trial.student for trial in trials}, trials[0].arm
    seeds = {trial.seed for trial in trials if all((control, student, trial.seed) in tested for student in students)}
    wanted = [(student, seed) for student in students for seed in seeds]
    arms: dict[str, None] = dict.fromkeys(trial.arm for trial in trials)
    unfinished = {arm for arm in arms if not all((arm, *pair) in tested for pair in wanted)}
    kept = without(arms, unfinished if seeds else arms, why="not every seed is tested yet")
    return [trial for trial in trials if trial.arm in kept and trial.seed in seeds]


def without(arms: dict[str, Any], unfinished: Collection[str], *, why: str) -> dict[str, Any]:
    """The arms that are finished; says which are left out.

    Raises:
        ValueError: the first arm is not, so that there is no control, or no other.
    """
    kept = {arm: value for arm, value in arms.items() if arm not in unfinished}
    if len(kept) < 2 or next(iter(arms)) in unfinished:
        raise ValueError("the control and another arm are not finished yet; the same command with jobs=1 goes on")
    if unfinished:
        logger.warning("left out, since %s: %s", why, ", ".join(arm for arm in arms if arm in unfinished))
    return kept


def run_missing(trials: Sequence[Trial], *, jobs: int, verbs: Sequence[str] = ("train", "evaluate")) -> None:
    """Runs the trials that `verbs` have not been done for yet, `jobs` at a time, each in a process of its own.

    Raises:
        RuntimeError: some failed; each is named with the end of its output.
    """
    tested = "evaluate" in verbs
    missing = [trial for trial in trials if not (is_evaluated(trial.job) if tested else trial.job.trained.is_file())]
    if len(missing) < len(trials):
        logger.info("%d of %d runs are there already", len(trials) - len(missing), len(trials))
    began = time.monotonic()
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        for done, (trial, error) in enumerate(
            pool.map(lambda t: (t, run_trial(t, jobs=jobs, verbs=verbs)), missing), start=1
        ):
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


def run_trial(trial: Trial, *, jobs: int, verbs: Sequence[str]) -> str:
    """Runs one trial in a process of its own; returns the end of its output if it failed, else nothing."""
    folder = trial.job.folder
    write_text(folder / "recipe.yaml", dump_recipe(trial.job.recipe))
    output = folder / "output.txt"
    threads = max(1, usable_cores() // jobs)
    with output.open("a", encoding="utf-8") as stream:
        finished = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).with_name("run.py")),
                f"recipe={folder / 'recipe.yaml'}",
                f"do=[{','.join(verbs)}]",
            ],
            env={**os.environ, "BANDPASS_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)},
            stdout=stream,
            stderr=stream,
            check=False,
        )
    if finished.returncode == 0:
        return ""
    tail = output.read_text(encoding="utf-8").splitlines()[-TAIL_LINES:]
    return f"exit {finished.returncode}, {output}: " + " | ".join(tail)
