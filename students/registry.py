"""The students of Bandpass by name, and a user's own classes."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from students.base import Student

STUDENTS = {
    "unet": "students.unet:UNet",
    "unetpp": "students.unetpp:UNetPlusPlus",
    "microaunet": "students.microaunet:MicroAUNet",
    "malunet": "students.malunet:MALUNet",
    "scrnet": "students.scrnet:SCRNet",
    "pranet": "students.pranet:PraNet",
    "sam_vit": "students.sam_vit:SamViT",
    "sam2_adapted": "students.sam2_adapted:Sam2Adapted",
    "timm_unet": "students.timm_unet:TimmUNet",
}


def resolve(name: str) -> type[Student]:
    """The class of a student by registry name or by `module:Class`.

    Raises:
        ValueError: the name is not known, cannot be imported, or is not a subclass of `Student`.
    """
    if name not in STUDENTS and ":" not in name:
        near = get_close_matches(name, STUDENTS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"unknown student {name!r}; choose from {', '.join(STUDENTS)}, or name a class of your own as "
            f"my_package.nets:MyNet{hint}"
        )
    module, _, attribute = STUDENTS.get(name, name).partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        where = "; its file must lie where the command is called, or be installed" if ":" in name else ""
        raise ValueError(f"student {name!r} cannot be imported: {error}{where}") from error
    if not (isinstance(found, type) and issubclass(found, Student)):
        raise ValueError(f"student {name!r} is {found!r}, but must be a subclass of students.base.Student")
    return found


def code_of(name: str) -> Path | None:
    """The file that defines a user's own class (`module:Class`); None for other names or if there is no file."""
    module, _, attribute = name.partition(":")
    try:
        found = find_spec(module) if attribute else None
    except (ImportError, ValueError):  # `resolve` raises it with a message
        return None
    return Path(found.origin) if found and found.has_location and found.origin else None


def create(name: str, *, width: int, classes: int = 1, **options: Any) -> Student:  # noqa: ANN401
    """A new student with random weights; `options` are further arguments of its class.

    Raises:
        ValueError: the name is not known, or the class does not take these arguments.
    """
    kind = resolve(name)
    given = {"width": width, "classes": classes, **options}
    try:
        signature(kind).bind(**given)
    except TypeError as error:
        known = ", ".join(signature(kind).parameters)
        raise ValueError(f"student {name!r} does not take these arguments ({error}); it takes {known}") from error
    return kind(**given)
