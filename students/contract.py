"""The check that a student, such as a class of the user's own, keeps the contract in `students.base`."""

from __future__ import annotations

import torch

from students.base import Student

PARTS = ("encoder", "decoder", "head")


def check_contract(student: Student, *, image_size: int) -> None:
    """Runs the student on two images of `image_size` pixels and checks the contract in `students.base`.

    Weights, gradients, running statistics and mode are left unchanged.

    Raises:
        ValueError: a part is missing, a parameter belongs to no part, or maps or logits are not as declared.
    """
    name = f"student {type(student).__name__}"
    declared = [part for part in (*PARTS, "channels", "strides", "classes") if not _has(student, part)]
    if declared:
        raise ValueError(
            f"{name} lacks {', '.join(declared)}; a student declares {', '.join(PARTS)} (modules), channels, strides "
            "and classes, see students/base.py"
        )
    assigned = {id(parameter) for part in PARTS for parameter in getattr(student, part).parameters()}
    outside = [key for key, parameter in student.named_parameters() if id(parameter) not in assigned]
    if outside:
        raise ValueError(
            f"{name} has parameters outside of encoder, decoder and head, the first is {outside[0]}; no stage could "
            "freeze them, so move them into one of the three"
        )
    training = student.training
    images = torch.zeros(2, 3, image_size, image_size, device=next(student.parameters()).device)
    try:
        with torch.no_grad():
            student.eval()
            maps = student.features(images)
            logits = student.decode(maps, (image_size, image_size))
    except (RuntimeError, IndexError, TypeError) as error:
        raise ValueError(f"{name} fails on images (2, 3, {image_size}, {image_size}): {error}") from error
    finally:
        student.train(training)
    pyramid = [
        (channels, -(-image_size // stride))
        for channels, stride in zip(student.channels, student.strides, strict=False)
    ]
    padded = image_size + -image_size % max(student.strides, default=1)
    of_padded = [(channels, padded // stride) for (channels, _), stride in zip(pyramid, student.strides, strict=False)]
    found = [(map_.shape[1], map_.shape[2]) for map_ in maps]
    if len(student.channels) != len(student.strides) or found not in (pyramid, of_padded):
        raise ValueError(
            f"{name} declares channels {tuple(student.channels)} at strides {tuple(student.strides)}, so maps of "
            f"(channels, rows) {pyramid} from {image_size} pixels, but features returns {found}"
        )
    expected = (2, student.classes, image_size, image_size)
    if tuple(logits.shape) != expected:
        raise ValueError(
            f"{name} returns logits of shape {tuple(logits.shape)}, but expected {expected}, the image's size"
        )


def _has(student: Student, part: str) -> bool:
    """Whether a part was declared, as a module, an attribute or by a class; modules are not entries of `vars`."""
    of_class = any(part in vars(kind) for kind in type(student).__mro__)
    return part in vars(student) or part in dict(student.named_children()) or of_class
