"""The runs that make teachers (`teachers.NAME.recipe`): which are missing, and their record in a cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.config.schema import TeacherRecipe
from distill.config.teacher_recipes import WITH_ENCODER
from distill.runs.caches import lacks_records
from distill.runs.latest import PUBLISHED
from distill.runs.open_run import weights_of
from distill.runs.reproduce import public_name
from distill.runs.run import Run
from students import learned_keys


def missing_teachers(run: Run) -> Iterator[tuple[str, Run]]:
    """Teacher and run, for each run that must still make a teacher; none if the teacher's cache is complete."""
    for name, runs in run.made.items():
        lacking = [one for one in runs if not Path(weights_of(run.recipe.teachers[name], (one,))).exists()]
        if lacking and lacks_records(run, name):
            yield from ((name, one) for one in lacking)


def origin_of(teacher: TeacherRecipe) -> Mapping[str, Any]:
    """The recipe and runs that made a teacher, for the record in its cache; empty if weights are given."""
    if teacher.recipe is None or teacher.weights is None or teacher.cache is not None:
        return {}
    places = [Path(place) for place in (teacher.weights.split(",") if teacher.seeds else [teacher.weights])]
    runs = [next(each.parent.name for each in (place, *place.parents) if each.name in PUBLISHED) for place in places]
    origin = {"made_by": {"recipe": public_name(teacher.recipe), "runs": runs}}
    keys = learned_keys(places[0].parents[teacher.adapter == "timm"]) if teacher.adapter in WITH_ENCODER else None
    return origin if keys is None else {**origin, "labelled": keys}  # published students have this record themselves
