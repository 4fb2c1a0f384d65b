"""The options of a teacher besides its weights, and the checks that all adapters share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_OTHER = {"levels": "strides", "strides": "levels"}


class Choice(NamedTuple):
    """The options of a teacher besides its weights.

    Attributes:
        model: `timm`: name of the backbone, e.g. "tf_efficientnet_b0"; may be left out if the weights name it.
            `student`: the class, "my_nets:Net", of a student that is not one of Bandpass's; its code is run.
        levels: numbers from 0. `timm`: feature levels, as in timm's `out_indices`; `dinov2`: blocks, `transformers`:
            blocks or stages, the last one if None; `fpn`: stages of SAM 2's trunk; `sam`: blocks of the trunk.
        strides: strides of the maps, in pixels. `timm`: instead of levels, (16,) if neither is given; `fpn`: maps of
            the pyramid, all if neither is given; `student`: levels of the student, (16, 8) if not given;
            `mask2former`, `oneformer`: states of the pixel decoder, the finest if not given; `sam`: the stride of the
            patches, to add the neck to chosen levels (without levels the neck is the only map).
        image_size: side of the square input, in pixels; the network's own if None. `sam`: fixed by the weights;
            `dinov2`: a multiple of 14; `mask2former`, `oneformer`, `fpn`: of 32 (SAM 3: of 28).
        classes: `mask2former`, `oneformer`: labels (or numbers) from config.json, whose soft mask is the map `mask`;
            no mask if None. `student` of several classes: ("all",), for a `mask` with one channel per class.
        norm: `timm`, `transformers`: whether maps are taken under the network's final norm, if it has one.
        mean: `timm`, `transformers`: mean of red, green and blue pixels in [0, 1] that the network expects; taken from
            the weights' own configuration if None.
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
    """Refuses the options of these names, which a teacher does not have.

    Raises:
        ValueError: if one of them is given.
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
    """The chosen numbers of blocks or stages, from 0 to `count` - 1, from shallow to deep, each once.

    `weights` and `kind` name the network and its blocks in messages.

    Raises:
        ValueError: if there is no such block or stage.
    """
    chosen = sorted(set(asked or default))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < count:
        raise ValueError(f"these {weights} weights have {kind} 0 to {count - 1}, got levels={chosen}")
    return chosen


def require_strides(asked: Sequence[int], own: Sequence[int], *, network: str, kind: str = "map") -> None:
    """Refuses strides at which a network has no map; `network` is its name in messages.

    Raises:
        ValueError: if there is one; the message names it, the strides that exist, and what to type.
    """
    if unknown := [stride for stride in asked if stride not in own]:
        fitting = [stride for stride in asked if stride in own] or own[-1:]
        raise ValueError(
            f"{network} has no {kind} of stride {unknown[0]}; choose from {', '.join(map(str, dict.fromkeys(own)))}, "
            f"as in teachers.NAME.strides=[{','.join(map(str, fitting))}]"
        )


def require_multiple(size: int, step: int, *, cells: str = "cells") -> None:
    """Refuses the side of a square image if whole cells, patches or windows of `step` pixels do not cover it.

    Raises:
        ValueError: if they do not; the message names the nearest sizes that fit.
    """
    if size % step or size < step:
        near = sorted({max(1, size // step) * step, max(1, size // step + 1) * step})
        raise ValueError(
            f"expected image_size to be a multiple of {step}, so that {cells} cover the image, got {size}; choose "
            f"{' or '.join(map(str, near))}"
        )
