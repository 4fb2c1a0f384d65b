"""The first and the last lines of a run: what it will do and on what, and what came out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from distill.evaluation.results import format_scores
from distill.runs.run import Run

BUILT_IN = """\
This run uses only what is built in: generated frames, and a small teacher of SAM's architecture that was trained with
labels on other frames of the same generator. It is not SAM. With your own images (images/ and masks/) and the real one:
    accelerate launch distill/run.py recipe={name} data.name=folder data.root=DIR \\
        teachers.{teacher}.weights=facebook/sam-vit-base{student}"""


def introduction(run: Run) -> Iterator[str]:
    """What is run, on which images, with which teacher, and where it goes."""
    recipe, splits = run.recipe, run.splits
    given = [name for name, teacher in recipe.consulted.items() if (teacher.cache or teacher.weights) == "builtin"]
    if recipe.data.name == "builtin" and given:
        larger = "" if recipe.reads_features else " image_size=352 student.width=32"
        yield BUILT_IN.format(name=recipe.name, teacher=given[0], student=larger)
    tests = ", ".join(f"{name} {len(samples)}" for name, samples in splits.test.items())
    unlabelled = f", {len(splits.unlabelled)} more without masks" if splits.unlabelled else ""
    counts = f"{len(splits.train)} images to train{unlabelled}, {len(splits.val)} to validate"
    yield f"data {recipe.data.name}: {counts}; test: {tests}"
    yield from (f"  note: {note}" for note in splits.notes)
    for name, teacher in recipe.consulted.items():
        yield f"teacher {name}: {teacher.cache or teacher.weights}, features in {run.caches[name]}"
    network = "task decoder on cached features," if recipe.reads_features else f"student {recipe.student.name}"
    yield f"{network} of width {recipe.student.width} at {recipe.image_size} px"
    yield f"run in {run.folder}"


def conclusion(run: Run, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Scores with intervals, what it cost, and where the student is."""
    for name, scores in metrics.get("datasets", {}).items():
        yield f"{name}: {format_scores(scores)}"
    if "teacher_forwards" in metrics:
        yield f"images through a teacher: {metrics['teacher_forwards']}"
    seconds = metrics.get("seconds", {})
    if seconds:
        yield "seconds: " + ", ".join(f"{verb} {value:.0f}" for verb, value in seconds.items())
    if (run.folder / "report.html").is_file():
        yield f"the report: {run.folder / 'report.html'}"
    if (run.published / "model.safetensors").is_file():
        yield f"the {run.published.name}: {run.published}"
