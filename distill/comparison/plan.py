"""The plan of a comparison: every run that it may need and its state, found once before anything runs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distill.comparison.runs import ArmRun, best_of, require_different, require_fair
from distill.config.parse import build_recipe
from distill.config.schema import Recipe
from distill.data.sample import Splits
from distill.metrics.bootstrap import LEAST_GROUPS
from distill.runs.accelerator import start_accelerator
from distill.runs.checks import check
from distill.runs.fingerprint import digest_of
from distill.runs.open_run import finished_twin, open_run
from distill.runs.run import Run

logger = logging.getLogger("bandpass")

Tuning = dict[tuple[str, str], dict[str, float]]  # arm, student -> setting -> validation figure that decides


@dataclass(frozen=True)
class ComparePlan:
    """Every arm of a comparison with every student, seed and setting of the sweep, seeds outermost."""

    recipe: Recipe
    runs: tuple[ArmRun, ...]

    @property
    def sweep(self) -> tuple[ArmRun, ...]:
        """The runs of the first seed, with which every arm chooses its setting; empty without a sweep."""
        return tuple(one for one in self.runs if one.seed == self.runs[0].seed) if self.recipe.sweep else ()

    def chosen(self, tuning: Tuning) -> list[ArmRun]:
        """The runs of each arm's best setting on validation; all runs without a sweep."""
        best = {key: best_of(figures, self.recipe.evaluate.select) for key, figures in tuning.items()}
        return [one for one in self.runs if one.setting == best.get((one.arm, one.student), "")]

    def swept(self) -> ComparePlan:
        """The plan without the arms that have not tried every setting of the sweep yet; logs which are left out.

        Raises:
            ValueError: the first arm is unfinished, or no other arm is finished.
        """
        unfinished = {one.arm for one in self.sweep if not one.trained}
        kept = without(self.recipe.arms, unfinished, why="not every setting is tried yet")
        return replace(self, runs=tuple(one for one in self.runs if one.arm in kept))

    def describe(self) -> str:
        """Arms, students, seeds and sweep in one line, and a line for each test set too small for a verdict."""
        students, seeds = ([*dict.fromkeys(str(getattr(one, of)) for one in self.runs)] for of in ("student", "seed"))
        tries = f"; every arm tries {', '.join(self.recipe.sweep)} with seed {seeds[0]}" if self.recipe.sweep else ""
        line = (
            f"comparing arms {', '.join(self.recipe.arms)}; students {', '.join(students)}; "
            f"seeds {', '.join(seeds)}{tries}"
        )
        return "\n".join((line, *self.small_tests()))

    def small_tests(self) -> Iterator[str]:
        """A warning for each test set with too few images (or groups) for an interval, and thus for a verdict."""
        for name, samples in self.runs[0].run.splits.test.items():
            groups = {sample.group or sample.key for sample in samples}
            if len(groups) < LEAST_GROUPS:
                independent = "images" if len(groups) == len(samples) else "sequences or patients"
                yield (
                    f"warning: {name} has {len(groups)} test {independent}; with fewer than {LEAST_GROUPS} there is no "
                    "interval and no verdict. Test on more, for example by data.fractions=[0.6,0.1,0.3]"
                )


def choose_arms(recipe: Recipe, names: Sequence[str] | None) -> Recipe:
    """The recipe with the named arms only, in the order given.

    Raises:
        ValueError: the recipe has no such arm.
    """
    for name in names or ():
        if name not in recipe.arms:
            raise ValueError(f"the recipe has no arm {name!r}; choose from {', '.join(recipe.arms)}")
    return replace(recipe, arms={name: recipe.arms[name] for name in names}) if names else recipe


def plan_comparison(recipe: Recipe, *, students: Sequence[str] | None, seeds: Sequence[int]) -> ComparePlan:
    """Opens the data once, names every run and finds out what it has done already.

    Args:
        recipe: with its arms.
        students: names of students; by default the recipe's own.
        seeds: of weights, data order and augmentation.

    Raises:
        ValueError: there are no seeds, the recipe has fewer than two arms, or an arm changes what must be equal.
    """
    if not seeds:
        raise ValueError("compare needs at least one seed, but seeds is empty; three allow a verdict")
    if len(recipe.arms) < 2:
        there = f"only {next(iter(recipe.arms))}" if recipe.arms else "none"
        raise ValueError(
            f"compare needs at least two arms, but there is {there}; name more in arms=, or write them into the "
            "recipe, as in arms: {baseline: {...}, distilled: {}}"
        )
    asked = [
        (seed, student, own)
        for seed in dict.fromkeys(seeds)
        for student in students or [recipe.student.name]
        for own in recipes_of(recipe, student=student, seed=seed)
    ]
    accelerator = start_accelerator(recipe)
    if accelerator.num_processes > 1:
        raise ValueError("start compare without a launcher; jobs=N does N runs at once")
    opened: dict[str, Splits] = {}
    runs: list[ArmRun] = []
    for seed, student, (arm, setting, own) in asked:
        data = digest_of([dataclasses.asdict(own.data), own.student.classes])
        run = finished_twin(open_run(own, accelerator=accelerator, splits=opened.get(data)))
        opened[data] = run.splits
        if seed == seeds[0]:
            check(run)
        runs.append(ArmRun(arm, student, seed, run, setting, run.trained.is_file(), run.is_evaluated()))
        require_fair(runs[0], runs[-1])
    require_different([one for one in runs if one.seed == seeds[0]])
    return ComparePlan(recipe, tuple(runs))


def can_compare(run: Run) -> bool:
    """Whether the arms of a run's recipe, with its student and seed, are comparable trainings that differ.

    With several processes only the number of arms is checked: one process asks, but all must open data together.
    """
    if len(run.recipe.arms) < 2 or run.accelerator.num_processes > 1:
        return len(run.recipe.arms) > 1
    asked = {
        name: replace(run.recipe.teachers[name], weights=None) for name in run.made
    }  # as before the run was opened
    recipe, runs = replace(run.recipe, teachers={**run.recipe.teachers, **asked}), list[ArmRun]()
    try:
        for arm, setting, own in recipes_of(recipe, student=recipe.student.name, seed=recipe.seed):
            splits = run.splits if own.data == recipe.data else None
            opened = open_run(own, accelerator=run.accelerator, splits=splits)
            runs.append(ArmRun(arm, recipe.student.name, recipe.seed, opened, setting))
            require_fair(runs[0], runs[-1])
        require_different(runs)
    except (ValueError, FileNotFoundError):
        return False
    return True


def recipes_of(recipe: Recipe, *, student: str, seed: int) -> Iterator[tuple[str, str, Recipe]]:
    """Yields arm, setting and the recipe of their run, for every arm and every setting of the sweep.

    Raises:
        ValueError: an arm asks for a pretrained encoder whose weights are not given.
    """
    base = {**dataclasses.asdict(recipe), "do": ["train", "evaluate"], "arms": {}, "sweep": {}}
    for arm, given in recipe.arms.items():
        overrides = given or {}
        for setting, changes in (recipe.sweep or {"": {}}).items():
            own = build_recipe(base, {"seed": seed, "student": {"name": student}}, overrides, changes or {})
            if "encoder" in overrides.get("student", {}) and own.student.encoder is None:
                raise ValueError(f"arm {arm!r} has a pretrained encoder, but its student.encoder is empty")
            yield arm, setting, own


def tuning_of(sweep: Sequence[ArmRun]) -> Tuning:
    """The validation figure (`evaluate.select`) of every setting that each arm and student tried."""
    tuning: Tuning = {}
    for one in sweep:
        tuning.setdefault((one.arm, one.student), {})[one.setting] = one.validated
    return tuning


def finished_of(runs: Sequence[ArmRun]) -> list[ArmRun]:
    """The runs that can be compared now: seeds whose first arm is tested, and the arms tested with all these seeds.

    Raises:
        ValueError: there is no such seed, or no other arm.
    """
    tested = {(one.arm, one.student, one.seed) for one in runs if one.tested}
    students, control = {one.student for one in runs}, runs[0].arm
    seeds = {one.seed for one in runs if all((control, student, one.seed) in tested for student in students)}
    wanted = [(student, seed) for student in students for seed in seeds]
    arms: dict[str, None] = dict.fromkeys(one.arm for one in runs)
    unfinished = {arm for arm in arms if not all((arm, *pair) in tested for pair in wanted)}
    kept = without(arms, unfinished if seeds else arms, why="not every seed is tested yet")
    return [one for one in runs if one.arm in kept and one.seed in seeds]


def without(arms: Mapping[str, Any], unfinished: Collection[str], *, why: str) -> list[str]:
    """The names of the finished arms; logs which are left out.

    Raises:
        ValueError: the first arm, which is the control, or all other arms are unfinished.
    """
    kept = [arm for arm in arms if arm not in unfinished]
    if len(kept) < 2 or next(iter(arms)) in unfinished:
        raise ValueError("the control and another arm must be finished first; the same command with jobs=1 goes on")
    if unfinished:
        logger.warning("left out, because %s: %s", why, ", ".join(arm for arm in arms if arm in unfinished))
    return kept
