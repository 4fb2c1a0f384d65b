"""The runs of a comparison: which there are, and whether they are fair to one another."""

from __future__ import annotations

import dataclasses
import glob
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill.config.parse import build_recipe
from distill.config.schedule import Span, spans_of, steps_of_score
from distill.config.schema import Recipe
from distill.evaluation.results import is_evaluated
from distill.runs.accelerator import start_accelerator
from distill.runs.checks import check
from distill.runs.run import Run, open_run
from distill.runs.state_files import read_summary

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Trial:
    """One run of a comparison: an arm, a student, a seed, perhaps a setting that is tried."""

    arm: str
    student: str
    seed: int
    run: Run
    setting: str = ""

    @property
    def title(self) -> str:
        """`taught unet seed 0`, and the setting in brackets."""
        return f"{self.arm} {self.student} seed {self.seed}" + (f" ({self.setting})" if self.setting else "")

    @property
    def span(self) -> Span:
        """The last stage of training."""
        splits = self.run.splits
        return spans_of(self.run.recipe, labelled=len(splits.train), unlabelled=len(splits.unlabelled))[-1]

    @property
    def steps(self) -> int:
        """Steps of training."""
        return self.span.stop

    @property
    def scored_every(self) -> int:
        """Steps from one score on the validation images to the next."""
        return steps_of_score(self.span, self.run.recipe)

    @property
    def tested(self) -> dict[str, list[str]]:
        """Data set -> the keys of its test images."""
        return {name: sorted(sample.key for sample in part) for name, part in self.run.splits.test.items()}


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
        settings: those chosen of `recipe.sweep`; where not given, every arm with every one of them.

    Raises:
        ValueError: the recipe has fewer than two arms, or an arm changes what must be equal.
    """
    if len(recipe.arms) < 2:
        raise ValueError("compare needs a recipe with at least two arms, as in arms: {alone: {...}, taught: {}}")
    accelerator = start_accelerator(recipe)
    if accelerator.num_processes > 1:
        raise ValueError("start compare without a launcher; jobs=N runs N of its trainings at once")
    base = {**dataclasses.asdict(recipe), "do": ["train", "evaluate"], "arms": {}, "sweep": {}}
    trials: list[Trial] = []
    for seed in dict.fromkeys(seeds):
        for student in students:
            for arm, overrides in recipe.arms.items():
                names = list(recipe.sweep or [""]) if settings is None else [settings.get((arm, student), "")]
                for name in names:
                    layers = [
                        {"seed": seed, "student": {"name": student}},
                        overrides or {},
                        recipe.sweep.get(name, {}),
                    ]
                    own = build_recipe(base, *layers)
                    if "encoder" in (overrides or {}).get("student", {}) and own.student.encoder is None:
                        raise ValueError(f"arm {arm!r} has a pretrained encoder, but its student.encoder is empty")
                    run = finished_twin(open_run(own, accelerator=accelerator))
                    check(run)
                    trials.append(Trial(arm, student, seed, run, name))
                    require_fair(trials[0], trials[-1])
    if settings is None:
        require_different(trials)
    return trials


def require_different(trials: Sequence[Trial]) -> None:
    """Raises ValueError where two arms ask for the very same runs: nothing would be compared."""
    runs: dict[str, list[Path]] = {}
    for trial in trials:
        runs.setdefault(trial.arm, []).append(trial.run.folder)
    for arm, folders in runs.items():
        if twin := next((other for other, its in runs.items() if other != arm and its == folders), None):
            raise ValueError(f"arms {arm!r} and {twin!r} ask for the very same trainings; change one, or leave it out")


def finished_twin(run: Run) -> Run:
    """The run, or where it is not trained yet the one that another recipe asked for in other words and that is."""
    if run.trained.is_file():
        return run
    rest = run.folder.name.removeprefix(run.recipe.name)  # -STUDENT-DIGEST
    for folder in sorted(run.folder.parent.glob(f"*{glob.escape(rest)}")):
        twin = replace(run, recipe=replace(run.recipe, name=folder.name.removesuffix(rest)), folder=folder)
        if twin.trained.is_file():
            return twin
    return run


def require_fair(first: Trial, other: Trial) -> None:
    """Raises ValueError unless two runs train for the same number of steps of the same size."""
    batches = [trial.run.recipe.optimiser.batch_size for trial in (first, other)]
    if first.steps != other.steps or batches[0] != batches[1]:
        raise ValueError(
            f"arm {other.arm!r} trains {other.steps} steps of {batches[1]} images, but arm {first.arm!r} {first.steps} "
            f"of {batches[0]}; a fair comparison has equal steps (stages.NAME.steps sets them)"
        )
    if first.scored_every != other.scored_every:
        raise ValueError(
            f"arm {other.arm!r} is scored on validation every {other.scored_every} steps, but arm {first.arm!r} every "
            f"{first.scored_every}; the best of more scores is better (evaluate.every counts epochs of labelled images)"
        )
    if first.tested != other.tested:
        raise ValueError(f"arm {other.arm!r} is tested on other images than arm {first.arm!r}; compare equal data")
    if other.run.recipe.evaluate.patience:
        raise ValueError("evaluate.patience ends a stage early, but a fair comparison has equal steps; set it to 0")


def summary_of(trial: Trial) -> dict[str, Any]:
    """The train.json of a finished run."""
    return read_summary(trial.run)


def with_finished_settings(recipe: Recipe, *, students: Sequence[str], seed: int) -> Recipe:
    """The recipe with those arms only that have tried every setting of its trials; says which are left out.

    Raises:
        ValueError: the first arm has not, or no other.
    """
    if not recipe.sweep:
        return recipe
    tried = trials_of(recipe, students=students, seeds=[seed])
    unfinished = {trial.arm for trial in tried if not trial.run.trained.is_file()}
    return replace(recipe, arms=without(recipe.arms, unfinished, why="not every setting is tried yet"))


def finished_of(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that can be compared now: seeds of which the first arm is tested, arms that have all of these seeds.

    Raises:
        ValueError: there is no such seed, or no other arm.
    """
    tested = {(trial.arm, trial.student, trial.seed) for trial in trials if is_evaluated(trial.run)}
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
