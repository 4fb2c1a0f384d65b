"""Recipes: YAML files, each with a comment on top that says what it does and what was measured."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """The recipes that ship with the package, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))
