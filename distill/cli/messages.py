"""The first and the last lines of a run: what it will do, and its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from distill.comparison.plan import can_compare
from distill.config.command import command_for, command_to_predict
from distill.config.registry import STEPS
from distill.evaluation.results import format_scores
from distill.runs.run import Run
from distill.runs.teacher_runs import missing_teachers
from distill.runtime.issues import several
from distill.runtime.threads import advice_beside_others

FEW_TEST, FEW_VAL = 20, 10  # with fewer images there is a warning

BUILT_IN = """\
This run uses only built-in data: generated frames, and a small teacher with SAM's architecture that was trained with
labels on other frames of the same generator. It is not SAM. For your own images (images/ and masks/) and the real SAM:
    distill run recipe={name} data.name=folder data.root=DIR \\
        teachers.{teacher}.weights=facebook/sam-vit-base{student}"""


def introduction(run: Run) -> Iterator[str]:
    """Lines that name the run, its images, its teacher and its folder."""
    recipe, splits = run.recipe, run.splits
    given = [name for name, teacher in recipe.consulted.items() if (teacher.cache or teacher.weights) == "builtin"]
    if recipe.data.name == "builtin" and given:
        larger = "" if recipe.reads_features else " image_size=352 student.width=32"
        yield BUILT_IN.format(name=recipe.name, teacher=given[0], student=larger)
    tests = ", ".join(f"{name} {len(samples)}" for name, samples in splits.test.items())
    unlabelled = f", {len(splits.unlabelled)} more without masks" if splits.unlabelled else ""
    frames = len(run.validation) - len(splits.val)
    empty = f" and {frames} without an object made from them" if frames else ""
    counts = f"{several(len(splits.train), 'image')} to train{unlabelled}, {len(splits.val)} to validate{empty}"
    yield f"data {recipe.data.name}: {counts}; test: {tests}"
    if recipe.evaluate.erased and not frames:
        yield "  note: evaluate.erased has no effect: no object of the validation images can be covered"
    yield from (f"  note: {note}" for note in splits.notes)
    yield from few_images(run)
    for name, teacher in recipe.consulted.items():
        made = f", made by recipe={teacher.recipe}" if run.made.get(name) else ""
        yield f"teacher {name}: {teacher.cache or teacher.weights}{made}, features in {run.caches[name]}"
    yield from (f"  {line}" for line in teachers_to_make(run))
    network = "task decoder on cached features," if recipe.reads_features else f"student {recipe.student.name}"
    yield f"{network} of width {recipe.student.width} at {recipe.image_size} px"
    yield f"run in {run.folder}"
    if advice := advice_beside_others(run.accelerator.device):
        yield advice


def teachers_to_make(run: Run) -> Iterator[str]:
    """A line for each missing run that makes a teacher, those of teachers' teachers first."""
    for name, one in missing_teachers(run):
        yield from teachers_to_make(one)
        recipe, student = run.recipe.teachers[name].recipe, one.recipe.student
        yield (
            f"teacher {name} is made first, by recipe={recipe}: {student.name} of width {student.width}, "
            f"{one.spans[-1].stop} steps, in {one.folder}"
        )


def few_images(run: Run) -> Iterator[str]:
    """A warning for each test set, and for the validation set, that is too small for a reliable score."""
    splits = run.splits
    for name, samples in splits.test.items():
        if len(samples) < FEW_TEST:
            count = several(len(samples), "test image")
            yield f"warning: {name} has {count}; with fewer than {FEW_TEST}, a score says little"
    if len(splits.val) < FEW_VAL:
        yield (
            f"warning: {several(len(splits.val), 'image')} to validate; with fewer than {FEW_VAL}, the choice of the "
            "best weights is mostly chance"
        )


def conclusion(run: Run, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Scores with intervals, the cost, the student's folder, and the command to type next."""
    for name, scores in metrics.get("datasets", {}).items():
        yield f"{name}: {format_scores(scores)}"
    if "teacher_forwards" in metrics:
        yield f"images through a teacher, over all calls of this run: {metrics['teacher_forwards']}"
    seconds = metrics.get("seconds", {})
    if seconds:
        yield "seconds, over all calls of this run: " + ", ".join(
            f"{verb} {value:.0f}" for verb, value in seconds.items()
        )
    if (run.folder / "report.html").is_file():
        yield f"the report: {run.folder / 'report.html'}"
    if (run.published / "model.safetensors").is_file():
        yield f"the {run.published.name}: {run.published}"
    yield from (f"next: {command}" for command in next_commands(run))


def next_commands(run: Run) -> list[str]:
    """The commands to type after the last requested step."""
    recipe = run.recipe
    steps = list(STEPS)
    last = max(map(steps.index, recipe.do), default=len(steps))
    if following := [step for step in steps[last + 1 :] if not is_done(run, step)]:
        return [command_for(following[0])]
    if recipe.reads_features:  # a task teacher: its masks teach a student
        return [f"distill run recipe=NAME 'teachers.masks={{adapter: task, of: TEACHER, weights: {run.published}}}'"]
    compare = [f"{command_for('compare')} seeds=0,1,2"] if can_compare(run) else []
    return [command_to_predict(run.folder, recipe.student.name), *compare]


def is_done(run: Run, step: str) -> bool:
    """Whether a step after training is already done."""
    if step == "publish":
        return (run.published / "model.safetensors").is_file()
    return step == "evaluate" and run.is_evaluated()
