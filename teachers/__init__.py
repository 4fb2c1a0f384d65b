"""Foundation models to imitate, each as named feature maps in the image's own frame."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from teachers.base import Teacher

TEACHERS = {  # `sam2` is an older name of `fpn`
    "dinov2": "teachers.dinov2:Dinov2Teacher",
    "ensemble": "teachers.student:EnsembleTeacher",
    "fpn": "teachers.fpn:FpnTeacher",
    "mask2former": "teachers.semantic:Mask2FormerTeacher",
    "student": "teachers.student:StudentTeacher",
    "oneformer": "teachers.semantic:OneFormerTeacher",
    "sam": "teachers.sam:SamTeacher",
    "sam2": "teachers.fpn:FpnTeacher",
    "timm": "teachers.timm:TimmTeacher",
    "transformers": "teachers.transformers:TransformersTeacher",
}
OPTIONS = {  # the teachers that have them
    "classes": ("mask2former", "oneformer", "student"),
    **dict.fromkeys(("norm", "mean", "std"), ("timm", "transformers")),
    "variant": ("sam",),
}


def resolve(name: str) -> type[Teacher]:
    """The class of a teacher by registry name or by `module:Class`.

    Raises:
        ValueError: the name is not known, cannot be imported, or is not a `Teacher`.
    """
    from teachers.base import Teacher

    if name not in TEACHERS and ":" not in name:
        raise ValueError(
            f"unknown teacher '{name}'; choose from {', '.join(sorted(TEACHERS))}, or name a class of your own as "
            "my_package.nets:MyTeacher"
        )
    module, _, attribute = TEACHERS.get(name, name).partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"teacher '{name}' cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Teacher)):
        raise ValueError(f"teacher '{name}' is {found!r}, but must be a subclass of teachers.base.Teacher")
    return found


def load(
    name: str,
    *,
    weights: str | Path | None,
    model: str | None = None,
    levels: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    image_size: int | None = None,
    classes: Sequence[str] | None = None,
    norm: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    variant: str | None = None,
) -> Teacher:
    """Loads a teacher, frozen and in eval mode, on the CPU in float32.

    Args:
        name: a key of `TEACHERS`, or an importable class of your own, `my_package.nets:MyTeacher`.
        weights: a local folder or safetensors file, or a hub id. For `sam` also "builtin", the small teacher that ships
            with this package; for `timm` also "hub", the weights that timm publishes for `model`; for `sam`,
            `fpn` (SAM 2) and `dinov2` also the path of an original checkpoint, .pth or .pt; for `student` the folder
            of a published student; for `ensemble` several, with commas between, or a folder of their folders.
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

    Raises:
        ValueError: if there is no such teacher, or the weights are not its own, or an argument does not fit.
        FileNotFoundError: if there are no weights; naming the places searched and a command that gets them.
    """
    from teachers.choice import Choice

    teacher = resolve(name)
    choice = Choice(model, levels, strides, image_size, classes, norm, mean, std, variant)
    for option, owners in OPTIONS.items():
        if name in TEACHERS and name not in owners and getattr(choice, option) != Choice._field_defaults[option]:
            raise ValueError(
                f"teacher '{name}' has no option {option}, got {option}={getattr(choice, option)}; leave it out, or "
                f"choose from {', '.join(owners)}"
            )
    if not weights:
        raise ValueError(
            f"teacher '{name}' needs weights: a local folder or file, or a hub id; got {weights!r}; "
            f"`hf download {teacher.example}` gets some, then weights={teacher.example}"
        )
    return teacher.load(weights, choice)
