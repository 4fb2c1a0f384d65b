"""Foundation models to imitate, each as named feature maps in the image's own frame."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
OPTIONS = {  # option -> the teachers that have it
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
    except (ImportError, AttributeError, SyntaxError) as error:
        where = "; its file must lie where the command is called, or be installed" if ":" in name else ""
        raise ValueError(f"teacher '{name}' cannot be imported: {error}{where}") from error
    if not (isinstance(found, type) and issubclass(found, Teacher)):
        raise ValueError(f"teacher '{name}' is {found!r}, but must be a subclass of teachers.base.Teacher")
    return found


def load(name: str, *, weights: str | Path | None, **options: Any) -> Teacher:  # noqa: ANN401
    """Loads a teacher, frozen and in eval mode, on the CPU in float32.

    Args:
        name: a key of `TEACHERS`, or an importable class of your own, `my_package.nets:MyTeacher`.
        weights: a local folder or safetensors file, or a hub id. For `sam` also "builtin", the small teacher that ships
            with this package; for `timm` also "hub", the weights that timm publishes for `model`; for `sam`,
            `fpn` (SAM 2) and `dinov2` also the path of an original checkpoint, .pth or .pt; for `student` the folder
            of a published student; for `ensemble` several of these, separated by commas, or a folder that holds them.
        options: the fields of `teachers.choice.Choice`, each for the teachers that have it.

    Raises:
        ValueError: if the teacher is unknown, the weights belong to another one, or an argument does not fit.
        FileNotFoundError: if there are no weights; the message names the places searched and a command that gets them.
    """
    from teachers.choice import Choice
    from teachers.weights.known import licence_by_digest

    teacher = resolve(name)
    choice = Choice(**options)
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
    loaded = teacher.load(weights, choice)
    if known := licence_by_digest(str(loaded.identity.get("weights"))):
        loaded.licence = known
    return loaded
