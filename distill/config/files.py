"""Recipe files: where they are found, and how one extends another."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

import recipes


def find_recipe(name: str) -> Path:
    """The file of a recipe by name in `recipes/` or by path.

    Raises:
        FileNotFoundError: neither exists; the message lists the names.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        if Path(name).expanduser().is_file():
            return Path(name).expanduser()
        raise FileNotFoundError(f"no recipe file at {name}")
    path = recipes.FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = recipes.names()
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(f"unknown recipe {name!r}; choose from {', '.join(names)}, or give a YAML file{hint}")
    return path


def load_layer(path: Path) -> dict[str, Any]:
    """A recipe file as nested plain data, laid over the recipe that it `extends`.

    Raises:
        ValueError: the file is no YAML mapping, or extends itself.
        FileNotFoundError: what it extends does not exist.
    """
    layer, seen = read_mapping(path), [path.resolve()]
    while (parent := layer.pop("extends", None)) is not None:
        place = find_recipe(str(parent))
        if place.resolve() in seen:
            raise ValueError(f"{path} extends itself, by way of {place}")
        seen.append(place.resolve())
        layer = overlaid(read_mapping(place), layer)
    return layer


def overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; where both have a value, the upper one counts, and its null takes a mapping away."""
    merged = dict(below)
    for key, value in above.items():
        if not isinstance(merged.get(key), dict):
            merged[key] = value
        elif value is None:
            del merged[key]
        else:
            merged[key] = overlaid(merged[key], value) if isinstance(value, dict) else value
    return merged


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ValueError: it does not.
    """
    try:
        layer = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(layer, dict):
        raise ValueError(f"{path} holds {type(layer).__name__}, but a recipe is a mapping of keys")
    return layer
