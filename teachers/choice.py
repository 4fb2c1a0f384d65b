"""The options of a teacher beside its weights, and the refusals that all adapters share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_OTHER = {"levels": "strides", "strides": "levels"}


class Choice(NamedTuple):
    """The options of a teacher beside its weights, each None where it was not given; see `teachers.load`."""

    model: str | None
    levels: Sequence[int] | None
    strides: Sequence[int] | None
    image_size: int | None
    classes: Sequence[str] | None = None
    norm: bool = True
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    variant: str | None = None


def require_unset(choice: Choice, *names: str, teacher: str) -> None:
    """Refuses options that a teacher does not have: `model`, and `levels` or `strides` where it has the other one.

    Raises:
        ValueError: one of them is given.
    """
    given = {name: getattr(choice, name) for name in names}
    if any(given.values()):
        other = "".join(f", and its maps are chosen by {_OTHER[name]}" for name in names if name in _OTHER)
        values = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(
            f"the weights of teacher '{teacher}' say which model it is{other}: leave out {' and '.join(names)}; "
            f"got {values}"
        )


def choose_levels(
    asked: Sequence[int] | None, count: int, *, weights: str, kind: str = "blocks", default: Sequence[int] = ()
) -> list[int]:
    """Numbers of blocks or stages, from 0 to `count` - 1, from shallow to deep and each once.

    `weights` and `kind` are the names of the network and of its blocks in messages.

    Raises:
        ValueError: there is no such block or stage.
    """
    chosen = sorted(set(asked or default))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < count:
        raise ValueError(f"these {weights} weights have {kind} 0 to {count - 1}, got levels={chosen}")
    return chosen


def require_multiple(size: int, step: int, *, cells: str = "cells") -> None:
    """Refuses the side of a square image that whole cells, patches or windows of `step` pixels do not cover.

    Raises:
        ValueError: naming the nearest sizes that fit.
    """
    if size % step or size < step:
        near = sorted({max(1, size // step) * step, max(1, size // step + 1) * step})
        raise ValueError(
            f"expected image_size to be a multiple of {step}, so that {cells} cover the image, got {size}; choose "
            f"{' or '.join(map(str, near))}"
        )
