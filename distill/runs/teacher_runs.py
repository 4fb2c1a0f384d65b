"""The runs that make teachers (`teachers.NAME.recipe`): doing what is missing of them, and their record."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cache
from distill.config.registry import STEPS
from distill.config.schema import TeacherRecipe
from distill.config.teacher_recipes import WITH_ENCODER
from distill.runs.accelerator import one_precision, start_accelerator
from distill.runs.latest import PUBLISHED
from distill.runs.reproduce import public_name
from distill.runs.run import Run, weights_of
from distill.runs.steps import do_step
from students import learned_keys

logger = logging.getLogger("bandpass")


def place_of(run: Run, name: str, one: Run) -> str:
    """The weights that one of the runs publishes."""
    return weights_of(run.recipe.teachers[name], (one,))


def train_teacher(run: Run, name: str) -> None:
    """Trains, tests and publishes what makes a teacher, where its weights are missing; at once where they are there.

    A killed training continues by the same command. Errors as in the steps.
    """
    for one in run.made.get(name, ()):
        place = place_of(run, name, one)
        if run.agree(Path(place).exists):
            continue
        logger.info("%s: recipe=%s makes it first, in %s", name, run.recipe.teachers[name].recipe, one.folder)
        with one_precision():
            do_steps(replace(one, accelerator=start_accelerator(one.recipe)))
        logger.info("%s: made; %s goes on", name, run.folder.name)


def do_steps(run: Run) -> None:
    """All steps; of a run that is trained those alone that need no features."""
    trained = run.agree(run.trained.is_file) and not run.recipe.reads_features
    for step in STEPS:
        if not (trained and step in ("extract", "train")):
            do_step(step, run)


def missing_teachers(run: Run) -> Iterator[tuple[str, Run]]:
    """Teacher and run of each run that makes a teacher and has published no weights; none where a cache is there."""
    for name, runs in run.made.items():
        if not cache.exists(run.caches[name]):
            yield from ((name, one) for one in runs if not Path(place_of(run, name, one)).exists())


def origin_of(teacher: TeacherRecipe) -> Mapping[str, Any]:
    """Recipe and runs that made a teacher, for the record of its cache; empty where weights are given."""
    if teacher.recipe is None or teacher.weights is None or teacher.cache is not None:
        return {}
    places = [Path(place) for place in (teacher.weights.split(",") if teacher.seeds else [teacher.weights])]
    runs = [next(each.parent.name for each in (place, *place.parents) if each.name in PUBLISHED) for place in places]
    origin = {"made_by": {"recipe": public_name(teacher.recipe), "runs": runs}}
    keys = learned_keys(places[0].parents[teacher.adapter == "timm"]) if teacher.adapter in WITH_ENCODER else None
    return origin if keys is None else {**origin, "labelled": keys}  # as published students have it themselves
