"""Recipe files: finding them, and laying one over the recipe that it extends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import recipes
from distill.config.layers import extended
from distill.config.schema import Recipe
from distill.config.values import from_yaml
from distill.runtime.issues import nearest

BYTES = 1_000_000  # the most that a recipe file may have


def find_recipe(name: str) -> Path:
    """The file of a recipe by name in `recipes/` or by path.

    Raises:
        FileNotFoundError: neither exists; the message lists the names.
    """
    if name.endswith((".yaml", ".yml")):
        if (path := file_at(name)) is not None:
            return path
        raise FileNotFoundError(f"no recipe file at {name}")
    names = recipes.names()
    if name not in names:
        hint = nearest(name[:100], names)
        raise FileNotFoundError(
            f"unknown recipe {name[:100]!r}; choose from {', '.join(names)}, or give a YAML file{hint}"
        )
    return recipes.FOLDER / f"{name}.yaml"


def file_at(name: str) -> Path | None:
    """The file at a path, `~` expanded; None if there is no file, or if the path is invalid."""
    try:
        path = Path(name).expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, of an unknown user, or with a null byte
        return None


def load_layer(path: Path) -> dict[str, Any]:
    """A recipe file as nested plain data, laid over the recipe that it `extends`.

    Raises:
        ValueError: the file is not a YAML mapping, or extends itself.
        FileNotFoundError: the recipe that it extends does not exist.
    """
    layers, seen = [read_mapping(path)], [path.resolve()]
    while (parent := layers[-1].pop("extends", None)) is not None:
        place = find_recipe(str(parent))
        if place.resolve() in seen:
            raise ValueError(f"{path} extends itself, by way of {place}")
        seen.append(place.resolve())
        layers.append(read_mapping(place))
    layer = layers.pop()
    for above in reversed(layers):
        layer = extended(layer, above)
    return layer


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML file that holds a recipe's keys.

    Raises:
        ValueError: it is too large, or is not a YAML mapping in UTF-8.
    """
    if path.stat().st_size > BYTES:
        raise ValueError(f"{path} holds {path.stat().st_size:,} bytes, but a recipe has at most {BYTES:,}")
    try:
        layer = from_yaml(path.read_text(encoding="utf-8"), Recipe)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if layer is not None and not isinstance(layer, dict):
        raise ValueError(f"{path} holds {type(layer).__name__}, but a recipe is a mapping of keys")
    return layer or {}
