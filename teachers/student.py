"""A published student as a teacher: its feature pyramid and its soft masks (MicroAUNet's scheme, with MALUNet)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

import students
from cache.spec import LOGIT_CLIP, MASK, FeatureSpec, MapSpec
from students import Student
from students.published import require_published
from teachers.base import Teacher
from teachers.choice import Choice, require_multiple, require_unset
from teachers.preprocess import SquareResize, statistics_of
from teachers.weights.locate import WeightFiles, locate, read_config
from teachers.weights.tensors import read_shapes, read_state, sha256, shapes_of

EXAMPLE = "your_name/your_student"
DEFAULT_STRIDES = (16, 8)
MASK_STRIDE = 4  # pixels of the network's input that a cell of the soft mask spans


class StudentTeacher(Teacher):
    """Maps `stride8`, `stride16`, ...: levels of the network's pyramid; and `mask`, the logit of its one class.

    Of several classes `mask` holds the logits of all, where they are asked for.
    """

    example = EXAMPLE

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> StudentTeacher:
        """Loads what `distill publish` wrote or pushed; arguments and errors as in `teachers.load`."""
        own_class = choice.model if choice.model is not None and ":" in choice.model else None
        require_unset(choice, *(("levels",) if own_class else ("model", "levels")), teacher="student")
        files = locate(students.place_of(weights), example=EXAMPLE)
        config = read_config(files.config) if files.config else {}
        student = build(files, config, trust=own_class)
        if missing := {"image_size", "mean", "std"} - config.keys():
            raise ValueError(
                f"{files.config} does not say {', '.join(sorted(missing))}; distill publish writes it whole"
            )
        size = choice.image_size or int(config["image_size"])
        chosen, masks = choose_strides(student, choice.strides), has_mask(student, choice.classes)
        # Students pad to this multiple, whichever of their maps are chosen.
        require_multiple(size, max(*student.strides, MASK_STRIDE))
        for file in filter(None, (files.config, files.model)):
            require_published(file)
        labelled = students.learned_keys(files.model.parent)
        return cls(
            "student",
            Pyramid(student, chosen, masks=masks),
            spec=spec_of(student, chosen, size, masks=masks),
            preprocessing=SquareResize(size, *(statistics_of(config[name], name) for name in ("mean", "std"))),
            facts={
                "model": config["student"],
                "strides": list(chosen),
                "weights": sha256(files.model),
                **({"labelled": labelled} if labelled is not None else {}),
            },
            licence=students.licence_of(files.model.parent) or "see the student's card",
        )


def build(files: WeightFiles, config: Mapping[str, Any], *, trust: str | None) -> Student:
    """The student that a published folder describes, with its weights.

    Args:
        files: where its weights are.
        config: its config.json.
        trust: the class of the user's own whose code may run.

    Raises:
        ValueError: it describes none, or the weights are not its own.
    """
    if "student" not in config:
        raise ValueError(
            f"{files.config or files.model} describes a model of type '{config.get('model_type')}', but teacher "
            f"'student' needs a student that Bandpass published; distill publish or `hf download {EXAMPLE}` gets one"
        )
    students.check_config(config, files.model.parent)
    student = students.build(config, files.model.parent, trust=trust)
    network = f"student '{config['student']}'"
    student.load_state_dict(read_state(files.model, read_shapes(files.model), shapes_of(student), network=network))
    students.check_finite(student, files.model)
    return student


class Pyramid(nn.Module):
    """A student's chosen levels and, with `masks`, its logits on a coarser grid."""

    def __init__(self, student: Student, strides: Sequence[int], *, masks: bool) -> None:
        super().__init__()
        self.student, self.masks = student, masks
        self.levels = [student.level_of(stride) for stride in strides]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps of (N, 3, S, S)."""
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        pyramid = self.student.features(pixels)
        maps = [pyramid[level] for level in self.levels]
        if self.masks:
            logits = self.student.decode(pyramid, size)
            if self.student.classes > 1:  # a softmax does not know their mean
                logits = logits - logits.mean(dim=1, keepdim=True)
            maps.append(functional.avg_pool2d(logits, MASK_STRIDE).clamp(-LOGIT_CLIP, LOGIT_CLIP))
        return maps


def choose_strides(student: Student, asked: Sequence[int] | None) -> tuple[int, ...]:
    """The chosen strides, or the default ones that the student has, finest last.

    Raises:
        ValueError: the student has no such level.
    """
    strides = tuple(
        asked or [stride for stride in DEFAULT_STRIDES if stride in student.strides] or student.strides[-1:]
    )
    for stride in strides:
        student.level_of(stride)  # raises where there is none
    return tuple(sorted(set(strides), reverse=True))


def has_mask(student: Student, classes: Sequence[str] | None) -> bool:
    """Whether a student's soft mask is wanted: of one class always, of several where `classes` is `all`.

    Raises:
        ValueError: `classes` is something else, or there is but one.
    """
    if classes and (list(classes) != ["all"] or student.classes == 1):
        raise ValueError(
            f"this student tells {student.classes} classes apart, got classes={list(classes)}; give [all] for the soft "
            "masks of several classes, or leave it out"
        )
    return student.classes == 1 or bool(classes)


def spec_of(student: Student, strides: Sequence[int], size: int, *, masks: bool) -> FeatureSpec:
    """Names, channels and grids of the chosen levels and the mask, for an input of `size` pixels a side."""
    maps = [
        MapSpec(f"stride{stride}", student.channels[student.level_of(stride)], (size // stride,) * 2, stride)
        for stride in strides
    ]
    if masks:
        maps.append(MapSpec(MASK, student.classes, (size // MASK_STRIDE,) * 2, MASK_STRIDE))
    return FeatureSpec(tuple(maps))
