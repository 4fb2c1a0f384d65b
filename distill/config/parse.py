"""From `key=value` to a `Recipe`: files and the command line are read alike; errors name the nearest key."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

import recipes
from distill.config.field import require
from distill.config.files import find_recipe, load_layer
from distill.config.keys import DEPTH, LAYERS, annotation_at
from distill.config.layers import check_names, extended, mapping_at, overlaid, placed, resolved
from distill.config.schema import Recipe
from distill.config.values import Dumper, build, from_yaml
from distill.runtime.io import write_text


def read_recipe(words: Sequence[str]) -> Recipe:
    """The recipe of a command line: `recipe=NAME_OR_FILE` and overrides.

    Raises:
        ValueError: no recipe is named, or more than one, or it is invalid.
        FileNotFoundError: the recipe does not exist.
    """
    overrides = parse_overrides(words)
    name = overrides.pop("recipe", None)
    if len(named := [word for word in words if word.startswith("recipe=")]) > 1:
        raise ValueError(f"a recipe is named more than once, by {' and '.join(named)}; take one of them out")
    if not isinstance(name, str):
        raise ValueError(f"name a recipe with recipe=NAME; choose from {', '.join(recipes.names())}")
    file = load_layer(find_recipe(name))
    check_arms(file, overrides)
    layer = extended(file, overrides, ordered=False)
    recipe = build_recipe(layer)
    for part in LAYERS:
        for title, changes in getattr(recipe, part).items():
            try:
                check_changes(layer, changes)
            except ValueError as error:  # noqa: PERF203 - a handful of arms
                raise ValueError(f"{'arm' if part == 'arms' else part} {title!r}: {error}") from error
    return recipe


def check_arms(file: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Raises ValueError if a new arm on the command line looks like the misspelt name of another."""
    known = mapping_at(file, "arms")
    for name in mapping_at(overrides, "arms"):
        if name not in known and (near := get_close_matches(name, known, n=1, cutoff=0.75)):
            raise ValueError(f"the recipe has no arms.{name}; did you mean 'arms.{near[0]}'?")


def check_changes(layer: dict[str, Any], changes: Any) -> None:  # noqa: ANN401
    """Raises ValueError if an arm or a setting of a sweep does not give a valid recipe over this layer."""
    if changes is not None and not isinstance(changes, dict):
        raise ValueError(f"it is {changes!r}, but must be a mapping of keys")
    check_names(layer, changes or {})
    build_recipe(layer, dict.fromkeys(LAYERS), changes or {})


def parse_overrides(words: Sequence[str], schema: type = Recipe) -> dict[str, Any]:
    """`["a.b=1", "c=[x,y]"]` as nested plain data; values that the schema declares as text stay as typed.

    Raises:
        ValueError: a word is not `key=value`, or a value cannot be read.
    """
    merged: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            raise ValueError(f"expected key=value, got {word!r}")
        if len(parts) > DEPTH:
            raise ValueError(f"{key[:100]} has {len(parts)} levels, more than any key")
        try:
            put(merged, parts, parse_value(value, annotation_at(schema, key)))
        except ValueError as error:
            raise ValueError(f"cannot read {word[:200]!r}: {error}") from error
    return merged


def put(merged: dict[str, Any], parts: Sequence[str], value: Any) -> None:  # noqa: ANN401
    """Sets a value under a path of keys; a mapping is laid over an existing one.

    Raises:
        ValueError: something on the path is a value instead of a mapping.
    """
    for depth, part in enumerate(parts[:-1], start=1):
        if merged.get(part) is None:
            merged[part] = {}
        merged = merged[part]
        if not isinstance(merged, dict):
            raise ValueError(f"{'.'.join(parts[:depth])} is {merged!r} already, but must be a mapping of keys")
    before = merged.get(parts[-1])
    both = isinstance(before, dict) and isinstance(value, dict)
    merged[parts[-1]] = overlaid(typing.cast("dict[str, Any]", before), value, ordered=False) if both else value


def parse_value(value: str, annotation: Any) -> Any:  # noqa: ANN401
    """The value of a command-line word: text as typed, anything else read as YAML; commas make a list.

    Raises:
        ValueError: it is not YAML.
    """
    if value in ("", "null", "~"):
        return None
    if annotation is str:
        return unquoted(value)
    if typing.get_origin(annotation) is list:
        return parse_list(value, annotation)
    if "," in value and not value.startswith(("[", "{", '"', "'")):
        value = f"[{value}]"
    return from_yaml(value, annotation)


def unquoted(value: str) -> str:
    """Text as typed, without quotes around the whole."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        try:
            return str(from_yaml(value, str))
        except ValueError:
            return value
    return value


def parse_list(value: str, annotation: Any) -> Any:  # noqa: ANN401
    """A list with or without brackets, split at commas, or read as YAML if it holds quotes or brackets.

    Raises:
        ValueError: a bracket is not closed, or it is not YAML.
    """
    if value.startswith("[") != value.endswith("]"):
        raise ValueError("a bracket has no partner; write [a, b], or a,b")
    inside = value[1:-1] if value.startswith("[") else value
    if annotation == list[str] and not any(mark in inside for mark in "\"'[]{}"):
        return [part.strip() for part in inside.split(",") if part.strip()]
    return from_yaml(f"[{inside}]" if "," in inside or value.startswith("[") else inside, annotation)


def build_recipe(*layers: dict[str, Any]) -> Recipe:
    """A checked recipe from layers of nested plain data, later ones winning.

    Raises:
        ValueError: an unknown key, a wrong type, a value out of range, or a teacher with both weights and a recipe.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = overlaid(merged, layer)
    if isinstance(merged.get("stages"), dict):
        merged["stages"] = placed(merged["stages"])
    recipe = typing.cast(Recipe, build(Recipe, resolved(merged)))
    for name, entry in recipe.teachers.items():
        require(
            entry.recipe is None or entry.weights is None,
            f"teachers.{name} has weights {entry.weights} and a recipe that makes them, {entry.recipe}; leave one out, "
            f"as teachers.{name}.recipe=null",
        )
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The full recipe as YAML, from which the same recipe is read; weights that a recipe makes are left out."""
    data = dataclasses.asdict(recipe)
    for teacher in data["teachers"].values():
        teacher["weights"] = None if teacher["recipe"] else teacher["weights"]
    return yaml.dump(data, Dumper=Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)


def write_recipe(recipe: Recipe, folder: Path) -> None:
    """Writes the full recipe into `folder` as recipe.yaml."""
    text = dump_recipe(recipe)
    write_text(folder / "recipe.yaml", text)
