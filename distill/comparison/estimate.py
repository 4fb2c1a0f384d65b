"""The dry run of a comparison: the remaining steps and their hours, from a short probe; writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distill.comparison.launcher import missing_of, steps_done
from distill.comparison.plan import ComparePlan, tuning_of
from distill.comparison.runs import ArmRun
from distill.extraction.cache_state import inspect_cache
from distill.extraction.plan import plan_extraction
from distill.runs.fingerprint import digest_of
from distill.runs.teacher_runs import missing_teachers
from distill.runtime.issues import several
from distill.runtime.progress import clock
from distill.training.step_time import time_step


def estimate(plan: ComparePlan, *, jobs: int) -> str:
    """Runs, steps, hours and missing features of a comparison with `jobs` concurrent runs, as text."""
    runs, settled = expected_runs(plan), all(one.trained for one in plan.sweep)
    missing = missing_of(runs, verbs=("train", "evaluate"))
    count = len({one.run.folder for one in runs})
    lines = [
        f"dry run of {plan.describe()}",
        *(
            f"{one.title}: {one.steps} steps in {one.run.folder}"
            if settled or one in plan.sweep
            else f"{one.arm} {one.student} seed {one.seed}: {one.steps} steps, with the best setting of the sweep"
            for one in missing
        ),
        f"{count - len(missing)} of {count} runs are done already",
        *training_lines(missing, jobs=jobs),
        *feature_lines(missing),
    ]
    return "\n".join(lines) + "\n"


def expected_runs(plan: ComparePlan) -> list[ArmRun]:
    """The runs that the comparison will need; until the sweep is done, any setting stands for the best one."""
    if all(one.trained for one in plan.sweep):
        return plan.chosen(tuning_of(plan.sweep))
    first, setting = plan.runs[0].seed, plan.runs[0].setting
    return [*plan.sweep, *(one for one in plan.runs if one.seed != first and one.setting == setting)]


def training_lines(missing: Sequence[ArmRun], *, jobs: int) -> Iterator[str]:
    """The remaining steps and their time; each kind of student is probed once, on all cores."""
    if not missing:
        return
    seconds: dict[str, float] = {}
    total = 0.0
    for one in missing:
        recipe = one.run.recipe
        if recipe.reads_features:  # which takes little time compared with a network that reads images
            continue
        student, size, batch = recipe.student, recipe.image_size, recipe.optimiser.batch_size
        kind = digest_of([student.name, student.width, student.options, size, batch])
        seconds[kind] = seconds.get(kind) or time_step(one.run).seconds
        total += seconds[kind] * (one.steps - steps_done([one]))
    left = sum(one.steps for one in missing) - steps_done(missing)
    yield (
        f"{several(len(missing), 'run')} to do, {several(left, 'step')}, about {clock(total)} one after the other "
        f"on this machine, without loading and tests; jobs={jobs} concurrent runs share its cores or GPUs"
    )


def feature_lines(missing: Sequence[ArmRun]) -> Iterator[str]:
    """The missing features, one line per cache, with the command that estimates their cost."""
    told = set()
    for one in missing:
        for name, folder in one.run.caches.items():
            if folder in told or one.run.recipe.teachers[name].cache:
                continue
            told.add(folder)
            for run in (run for which, run in missing_teachers(one.run) if which == name):
                recipe = one.run.recipe.teachers[name].recipe
                yield f"teacher {name} is made first, by recipe={recipe}: {run.spans[-1].stop} steps in {run.folder}"
            wanted = plan_extraction(one.run, name).records
            if lacks := len(inspect_cache(folder, wanted).missing):
                yield (
                    f"teacher {name}: {lacks} of {len(wanted)} records are missing in {folder}; "
                    "distill extract --dry-run estimates their hours"
                )
