"""The part of a recipe that may be published, and the command that runs it elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.config.registry import STEPS
from distill.config.schema import Recipe

PLACES = ("root", "split", "unlabelled", "init", "encoder", "weights", "cache")  # keys of paths


def public_recipe(recipe: Recipe) -> Recipe:
    """The recipe without paths on this machine; `command` asks for those."""
    data = replace(
        recipe.data,
        root=public_name(recipe.data.root),
        split=public_name(recipe.data.split),
        unlabelled=public_name(recipe.data.unlabelled),
    )
    student = replace(
        recipe.student, init=public_name(recipe.student.init), encoder=public_name(recipe.student.encoder)
    )
    teachers = {
        name: replace(
            teacher,
            cache=None,
            weights=None if teacher.recipe else public_name(teacher.weights),
            recipe=public_name(teacher.recipe),
            overrides=public_values(teacher.overrides),
        )
        for name, teacher in recipe.teachers.items()
    }
    return replace(
        recipe,
        home="artifacts",
        do=list(STEPS),
        data=data,
        student=student,
        teachers=teachers,
        publish=replace(recipe.publish, hub=None, zoo=None),
        arms={},
        sweep={},
    )


def public_values(values: Any) -> Any:  # noqa: ANN401
    """Nested plain data in which every path on this machine is reduced to its last part."""
    if isinstance(values, dict):
        return {name: public_values(value) for name, value in values.items()}
    return public_name(values) if isinstance(values, str) else values


def places_in(values: Any, key: str) -> dict[str, str]:  # noqa: ANN401
    """Dotted key -> text, for the texts in nested plain data whose keys say that they are places."""
    if isinstance(values, dict):
        return {
            found: text for name, value in values.items() for found, text in places_in(value, f"{key}.{name}").items()
        }
    last = key.rpartition(".")[2]
    known = last in PLACES or (last == "recipe" and str(values).endswith((".yaml", ".yml")))
    return {key: values} if isinstance(values, str) and known else {}


def public_name(place: str | None) -> str | None:
    """A hub id or a built-in name unchanged; the last part of a path on this machine (or several, with commas)."""
    if not place:
        return place
    return ",".join(path.name if path.exists() else part for part, path in paths_in(place))


def paths_in(place: str) -> list[tuple[str, Path]]:
    """One place, or several separated by commas, each as written and as a path."""
    parts = [place] if Path(place).expanduser().exists() else place.split(",")
    return [(part, Path(part).expanduser()) for part in parts]


def command(recipe: Recipe) -> str:
    """The command that runs the public recipe again; the user replaces the words in capitals."""
    data, student = recipe.data, recipe.student
    places = {"data.root": data.root, "data.split": data.split, "data.unlabelled": data.unlabelled}
    places |= {"student.init": student.init, "student.encoder": student.encoder}
    for name, teacher in recipe.teachers.items():
        made = {"recipe": teacher.recipe} if teacher.recipe else {"weights": teacher.weights}
        places |= places_in({**made, "overrides": teacher.overrides}, f"teachers.{name}")
    found = {key: [path for _, path in paths_in(place) if path.exists()] for key, place in places.items() if place}
    words = [f"{key}={'FILE' if paths[0].is_file() else 'DIR'}" for key, paths in found.items() if paths]
    return " ".join(["accelerate launch distill/run.py recipe=recipe.yaml", *words])
