"""`--dry-run`: the cost of a run, from a short probe of teacher and student on this machine; writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from distill.cli.messages import few_images
from distill.config.schema import Recipe
from distill.distillation.targets import check_grids, note_idle_maps
from distill.extraction.cache_state import inspect_cache
from distill.extraction.cost import estimate_cost
from distill.extraction.plan import plan_extraction
from distill.extraction.teacher_inference import PRECISIONS, FeatureExtractor, load_teacher
from distill.runs.checks import check
from distill.runs.open_run import open_run
from distill.runs.run import Run
from distill.runs.teacher_runs import missing_teachers
from distill.runtime.issues import several
from distill.runtime.progress import clock
from distill.training.step_time import images_of_step, time_step


def estimate(recipe: Recipe) -> str:
    """Images, views, GB and hours of a recipe, as text."""
    run = open_run(recipe)
    check(run)
    splits = run.splits
    tests = len(splits.tested)
    unlabelled = f", {len(splits.unlabelled)} without masks" if splits.unlabelled else ""
    lines = [
        f"dry run of {recipe.name}: writes only the file index",
        f"images: {len(splits.train)} to train{unlabelled}, {len(splits.val)} to validate, {tests} to test",
        *(f"  note: {note}" for note in splits.notes),
        *few_images(run),
        *estimate_run(run),
    ]
    return "\n".join(lines) + "\n"


def estimate_run(run: Run) -> Iterator[str]:
    """The lines of teachers and training; if a teacher must be made first, the lines of its run come before."""
    missing = list(missing_teachers(run))
    for name, one in missing:
        yield f"teacher {name} is made first, by recipe={run.recipe.teachers[name].recipe}, in {one.folder}:"
        yield from (f"  {line}" for line in estimate_run(one))
    unmade = {name for name, _ in missing}
    for name in run.recipe.consulted:
        yield from estimate_teacher(run, name, made=name not in unmade)
    yield from estimate_training(run)


def estimate_teacher(run: Run, name: str, *, made: bool) -> Iterator[str]:
    """The missing records and, if the teacher is `made`, their size and the time it needs for them."""
    recipe, folder = run.recipe.teachers[name], run.caches[name]
    plan = plan_extraction(run, name)
    state = inspect_cache(folder, plan.records)
    views = ", ".join(recipe.views)
    records = several(len(plan.records), "record")
    yield f"teacher {name}: {records} ({views}), {len(state.missing)} of them missing in {folder}"
    if not state.missing or recipe.cache or recipe.adapter == "task":
        return
    if not made:
        yield "  their cost can be estimated once the teacher is made"
        return
    teacher = load_teacher(recipe).to(run.accelerator.device, PRECISIONS[recipe.precision])
    check_grids(run.recipe, teacher.spec, teacher=name)
    if note := note_idle_maps(run.recipe, teacher.spec, teacher=name):
        yield f"  {note}"
    yield str(estimate_cost(plan, state, FeatureExtractor(teacher, size=recipe.batch_size)))


def estimate_training(run: Run) -> Iterator[str]:
    """Steps and their time, without loading and imitation, which add little."""
    recipe, steps = run.recipe, run.spans[-1].stop
    if run.trained.is_file():
        yield f"trained already: {run.folder}"
        return
    if recipe.reads_features:
        yield f"task decoder of width {recipe.student.width} on cached features; {several(steps, 'step')}"
        return
    step = time_step(run)
    yield (
        f"student {recipe.student.name} of width {recipe.student.width}: {step.parameters:,} parameters; "
        f"{several(steps, 'step')} of {several(images_of_step(run), 'image')} at {recipe.image_size} px, "
        f"about {clock(step.seconds * steps)}"
    )
