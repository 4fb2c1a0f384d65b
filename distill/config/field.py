"""Declarations of a recipe's settings, with their meanings, and of their ranges."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import field
from typing import Any

from distill.runtime.issues import nearest


def setting(default: Any, meaning: str) -> Any:  # noqa: ANN401
    """A dataclass field with its default and its help text."""
    metadata = {"meaning": meaning}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def require(condition: bool, sentence: str) -> None:
    """Raises ValueError with `sentence` unless `condition` holds; every range in a recipe is checked with it."""
    if not condition:
        raise ValueError(sentence)


def require_choice(what: str, value: str, choices: Collection[str]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    require(value in choices, f"{what} is {value!r}, but must be one of {', '.join(choices)}{nearest(value, choices)}")


def require_choices(what: str, values: list[str], choices: tuple[str, ...]) -> None:
    """Raises ValueError unless each of `values` is one of `choices`, and none is given twice."""
    for value in values:
        require_choice(what, value, choices)
    require(len(set(values)) == len(values), f"{what} names something twice: {', '.join(values)}")
