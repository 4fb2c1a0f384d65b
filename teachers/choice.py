"""The options of a teacher beside its weights, and the refusals that all adapters share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_OTHER = {"levels": "strides", "strides": "levels"}


class Choice(NamedTuple):
    """The options of a teacher beside its weights.

    Attributes:
        model: `timm`: name of the backbone, e.g. "tf_efficientnet_b0"; may be left out where the weights name it.
            `student`: the class, "my_nets:Net", of a student that is not one of Bandpass's; its code is run.
        levels: `timm`: feature levels, as in timm's `out_indices`; `dinov2`: blocks, `transformers`: blocks or stages,
            counted from 0, the last if None; `fpn`: stages of SAM 2's trunk, `sam`: blocks of it, counted from 0.
        strides: strides of the maps, in pixels. `timm`: instead of levels, (16,) if neither is given; `fpn`: maps of
            the pyramid, all if neither is given; `student`: levels of the student, (16, 8) if not given;
            `mask2former`, `oneformer`: states of the pixel decoder, the finest if not given; `sam`: that of the
            patches, for the neck, which there is anyway if no levels are given.
        image_size: side of the square input, in pixels; its own if None. `sam`: fixed by the weights;
            `dinov2`: a multiple of 14; `mask2former`, `oneformer`, `fpn`: of 32 (SAM 3: of 28).
        classes: `mask2former`, `oneformer`: labels (or numbers) of config.json, of which `mask` is the soft mask; there
            is none if None. `student` of several classes: ("all",), for a `mask` of a channel each.
        norm: `timm`, `transformers`: whether maps are taken under the network's final norm, where it has one.
        mean: `timm`, `transformers`: mean of red, green and blue pixels in [0, 1] that the network expects; of the
            weights' own configuration if None.
        std: `timm`, `transformers`: their standard deviation, likewise.
        variant: `sam`: "medsam" for weights of MedSAM, which expects other pixels than SAM.
    """

    model: str | None = None
    levels: Sequence[int] | None = None
    strides: Sequence[int] | None = None
    image_size: int | None = None
    classes: Sequence[str] | None = None
    norm: bool = True
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    variant: str | None = None


def require_unset(choice: Choice, *names: str, teacher: str) -> None:
    """Refuses options, by their names, that a teacher does not have.

    Raises:
        ValueError: one of them is given.
    """
    given = [name for name in names if getattr(choice, name) != Choice._field_defaults[name]]
    if given:
        others = {_OTHER[name] for name in given if name in _OTHER} - set(names)
        hint = "".join(f"; its maps are chosen by {name}" for name in sorted(others))
        values = ", ".join(f"{name}={getattr(choice, name)}" for name in given)
        raise ValueError(f"teacher '{teacher}' has no option {' or '.join(given)}: leave out {values}{hint}")


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


def require_strides(asked: Sequence[int], own: Sequence[int], *, network: str, kind: str = "map") -> None:
    """Refuses strides at which a network, by its name in messages, has no map.

    Raises:
        ValueError: naming one, those that there are, and what to type.
    """
    if unknown := [stride for stride in asked if stride not in own]:
        fitting = [stride for stride in asked if stride in own] or own[-1:]
        raise ValueError(
            f"{network} has no {kind} of stride {unknown[0]}; choose from {', '.join(map(str, dict.fromkeys(own)))}, "
            f"as in teachers.NAME.strides=[{','.join(map(str, fitting))}]"
        )


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
