"""`--dry-run`: what a run would take, from a short probe of teacher and student on this machine; writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import cache
from distill.config.schedule import spans_of
from distill.config.schema import Recipe
from distill.distillation.distiller import check_grids
from distill.extraction.cost import cost_of
from distill.extraction.extract import wanted_records
from distill.extraction.teacher_inference import FeatureExtractor, load_teacher, samples_of
from distill.runs.checks import check
from distill.runs.run import Run, open_run
from distill.runtime.progress import clock
from distill.training.step_time import time_step


def estimate(recipe: Recipe) -> str:
    """Images, views, GB and hours of a recipe, as text."""
    run = open_run(recipe)
    check(run)
    splits = run.splits
    tests = sum(len(samples) for samples in splits.test.values())
    unlabelled = f", {len(splits.unlabelled)} without masks" if splits.unlabelled else ""
    lines = [
        f"dry run of {recipe.name}: nothing is written but the memo of what the files hold",
        f"images: {len(splits.train)} to train{unlabelled}, {len(splits.val)} to validate, {tests} to test",
        *(f"  note: {note}" for note in splits.notes),
        *(line for name in recipe.consulted for line in estimate_teacher(run, name)),
        *estimate_training(run),
    ]
    return "\n".join(lines) + "\n"


def estimate_teacher(run: Run, name: str) -> Iterator[str]:
    """Records that are missing, what they will weigh and how long the teacher needs for them."""
    recipe, folder = run.recipe.teachers[name], run.caches[name]
    wanted = wanted_records(run, name)
    missing = [record for shard in cache.plan(folder, wanted) for record in shard] if cache.exists(folder) else wanted
    views = ", ".join(recipe.views)
    yield f"teacher {name}: {len(wanted)} records ({views}), {len(missing)} of them missing in {folder}"
    if not missing or recipe.cache or recipe.adapter == "task":
        return
    teacher = load_teacher(recipe).to(run.accelerator.device)
    check_grids(run.recipe, teacher.spec, teacher=name)
    yield cost_of(run, name, FeatureExtractor(teacher, size=recipe.batch_size), samples_of(run, name), missing)


def estimate_training(run: Run) -> Iterator[str]:
    """Steps, and the time they take without loading and imitation, which cost little beside them."""
    recipe, splits = run.recipe, run.splits
    steps = spans_of(recipe, labelled=len(splits.train), unlabelled=len(splits.unlabelled))[-1].stop
    if recipe.reads_features:
        yield f"task decoder of width {recipe.student.width} on cached features; {steps} steps"
        return
    step = time_step(run)
    yield (
        f"student {recipe.student.name} of width {recipe.student.width}: {step.parameters:,} parameters; {steps} steps "
        f"of {recipe.optimiser.batch_size} images at {recipe.image_size} px, about {clock(step.seconds * steps)}"
    )
