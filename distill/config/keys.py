"""The keys of a schema, each with its type and meaning, and the nearest key to an unknown one."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from distill.config.schema import Recipe, TeacherRecipe

# What people type out of habit -> the key here.
HABITS = {
    "lr": "optimiser.learning_rate",
    "batch": "optimiser.batch_size",
    "epochs": "stages.NAME.epochs",
    "backbone": "student.options",
    "model": "student.name",
    "seeds": "seed",
}
LAYERS = ("arms", "sweep")  # keys of a recipe under which each name holds changes to the recipe itself
DEPTH = 20  # of nested keys and values; a recipe needs six


@lru_cache(maxsize=32)
def fields_of(schema: type) -> dict[str, Any]:
    """Field name -> annotated type of a dataclass."""
    hints = typing.get_type_hints(schema)
    return {field.name: hints[field.name] for field in dataclasses.fields(schema)}


def schema_under(annotation: Any) -> tuple[type | None, bool]:  # noqa: ANN401
    """The dataclass in an annotation, and whether it is the value of a mapping (`dict[str, StageRecipe]`)."""
    if dataclasses.is_dataclass(annotation):
        return typing.cast("type", annotation), False
    if typing.get_origin(annotation) is dict:
        value = typing.get_args(annotation)[1]
        return (typing.cast("type", value), True) if dataclasses.is_dataclass(value) else (None, False)
    return None, False


def required(annotation: Any) -> Any:  # noqa: ANN401
    """The annotation without `None`: `str` of `str | None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(annotation) if part is not type(None))
    return annotation


def annotation_under(annotation: Any, key: str) -> Any:  # noqa: ANN401
    """The annotation of the value of a key; `Any` where the schema is untyped."""
    if annotation is Recipe and key in ("recipe", "extends"):
        return str
    if annotation is Recipe and key in LAYERS:
        return dict[str, Recipe]
    if annotation is TeacherRecipe and key == "overrides":
        return Recipe
    if dataclasses.is_dataclass(annotation):
        return required(fields_of(typing.cast("type", annotation)).get(key, Any))
    if typing.get_origin(annotation) is dict:
        return required(typing.get_args(annotation)[1])
    return Any


def annotation_at(schema: Any, key: str) -> Any:  # noqa: ANN401
    """The annotation of a dotted key: `str` of `data.root`."""
    for part in key.split("."):
        schema = annotation_under(schema, part)
    return schema


def known_keys() -> list[str]:
    """Every settable key; `NAME` stands for a name that a recipe gives: `stages.NAME.epochs`."""
    return [key for key, _, _ in describe_keys()]


def describe_keys(schema: type = Recipe, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key as (key, default as typed, meaning); `NAME` stands for a name that a recipe gives."""
    annotations = fields_of(schema)
    for field in dataclasses.fields(schema):
        nested, named = schema_under(annotations[field.name])
        if nested is None:
            yield prefix + field.name, show(default_of(field)), field.metadata["meaning"]
        else:
            yield from describe_keys(nested, f"{prefix}{field.name}.NAME." if named else f"{prefix}{field.name}.")


def default_of(field: dataclasses.Field[Any]) -> Any:  # noqa: ANN401
    """The default of a dataclass field."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def default_at(key: str) -> Any:  # noqa: ANN401
    """The default of a dotted key of a recipe; None for a name that a recipe gives.

    Raises:
        KeyError: there is no such key.
    """
    schema: Any = Recipe
    default: Any = None
    for part in key.split("."):
        if dataclasses.is_dataclass(schema) and part in (known := {f.name: f for f in dataclasses.fields(schema)}):
            default, schema = default_of(known[part]), required(fields_of(typing.cast("type", schema))[part])
        elif typing.get_origin(schema) is dict:
            default, schema = None, typing.get_args(schema)[1]
        else:
            raise KeyError(key)
    return default


def show(value: Any) -> str:  # noqa: ANN401
    """A value as one would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value)) or "[]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {show(part)}" for key, part in value.items()) + "}"
    return str(value)


def unknown_key(key: str, schema: type, prefix: str) -> str:
    """The message for an unknown key, with the nearest key in the recipe."""
    beside = get_close_matches(key.rsplit(".", 1)[-1], fields_of(schema), n=1)
    near = elsewhere(key) or (f"{prefix}{beside[0]}" if beside else None)
    hint = f"did you mean {near!r}?" if near else f"keys there are {', '.join(fields_of(schema))}"
    return f"a recipe has no key {key!r}; {hint}"


def elsewhere(key: str) -> str | None:
    """The key that a word most likely means: with the same last part, by habit, or with similar spelling."""
    last, everywhere = key.rsplit(".", 1)[-1], known_keys()
    same = [known for known in everywhere if known.rsplit(".", 1)[-1] == last]
    near = [HABITS[last]] if last in HABITS else same or get_close_matches(key, everywhere, n=1, cutoff=0.75)
    return near[0] if near and near[0] != key else None
