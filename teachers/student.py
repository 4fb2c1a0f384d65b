"""A published student as a teacher: its feature pyramid and its soft mask (MicroAUNet's scheme, with MALUNet)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

import students
from cache.spec import LOGIT_CLIP, MASK, FeatureSpec, MapSpec
from students import Student
from teachers.base import Choice, Teacher
from teachers.preprocess import Stretch
from teachers.weights import WeightFiles, locate, read_config, read_shapes, read_tensors, require_shapes, sha256

EXAMPLE = "your_name/your_student"
DEFAULT_STRIDES = (16, 8)
MASK_STRIDE = 4  # pixels of the network's input that a cell of the soft mask spans


class StudentTeacher(Teacher):
    """Maps `stride8`, `stride16`, ...: levels of the network's pyramid; and `mask`, the logit of its one class."""

    example = EXAMPLE

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> StudentTeacher:
        """Loads what `do=publish` wrote or pushed; arguments and errors as in `teachers.load`."""
        model, levels, strides, image_size, _ = choice
        if model is not None or levels:
            raise ValueError(
                "the published student says which model it is, and its maps are chosen by strides: leave out model and "
                f"levels, got model={model}, levels={levels}"
            )
        files = locate(weights, example=EXAMPLE)
        config = read_config(files.config) if files.config else {}
        student = build(files, config)
        if missing := {"image_size", "mean", "std"} - config.keys():
            raise ValueError(f"{files.config} does not say {', '.join(sorted(missing))}; do=publish writes it whole")
        size = image_size or int(config["image_size"])
        chosen = choose_strides(student, strides)
        multiple = max(*student.strides, MASK_STRIDE)  # to which students pad, whichever of their maps are chosen
        if size % multiple:
            below = size // multiple * multiple
            raise ValueError(
                f"expected image_size to be a multiple of {multiple}, so that cells cover the image; got {size}, "
                f"choose {below or multiple} or {below + multiple}"
            )
        seen = students.learned_keys(files.model.parent)
        return cls(
            "student",
            Pyramid(student, chosen),
            spec=spec_of(student, chosen, size),
            preprocessing=Stretch(size, on_bytes(config["mean"]), on_bytes(config["std"])),
            facts={
                "model": config["student"],
                "strides": list(chosen),
                "weights": sha256(files.model),
                **({"labelled": seen} if seen is not None else {}),
            },
            licence=students.said_licence(files.model.parent) or "see the student's card",
        )

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """As `Teacher.maps` says."""
        return dict(zip(self.spec.names, self.network(pixels), strict=True))


def build(files: WeightFiles, config: Mapping[str, Any]) -> Student:
    """The student that a published folder describes, with its weights.

    Raises:
        ValueError: it describes none, or the weights are not its own.
    """
    if "student" not in config:
        raise ValueError(
            f"{files.config or files.model} describes a model of type '{config.get('model_type')}', but teacher "
            f"'student' needs a student that Bandpass published; do=publish or `hf download {EXAMPLE}` gets one"
        )
    kind = students.resolve_published(str(config["student"]), files.model.parent)
    student = kind(**{name: config[name] for name in signature(kind).parameters if name in config})
    expected = {name: tuple(value.shape) for name, value in student.state_dict().items()}
    require_shapes(read_shapes(files.model), expected, path=files.model, network=f"student '{config['student']}'")
    student.load_state_dict(read_tensors(files.model))
    return student


class Pyramid(nn.Module):
    """A student's chosen levels and, if it has one class, its logits on a coarser grid."""

    def __init__(self, student: Student, strides: Sequence[int]) -> None:
        super().__init__()
        self.student = student
        self.levels = [student.level_of(stride) for stride in strides]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps of (N, 3, S, S)."""
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        pyramid = self.student.features(pixels)
        maps = [pyramid[level] for level in self.levels]
        if self.student.classes == 1:
            logits = self.student.decode(pyramid, size)
            maps.append(functional.avg_pool2d(logits, MASK_STRIDE).clamp(-LOGIT_CLIP, LOGIT_CLIP))
        return maps


def choose_strides(student: Student, asked: Sequence[int] | None) -> tuple[int, ...]:
    """The strides asked for, or the default ones that the student has, finest last.

    Raises:
        ValueError: the student has no such level.
    """
    strides = tuple(
        asked or [stride for stride in DEFAULT_STRIDES if stride in student.strides] or student.strides[-1:]
    )
    for stride in strides:
        student.level_of(stride)  # raises where there is none
    return tuple(sorted(set(strides), reverse=True))


def spec_of(student: Student, strides: Sequence[int], size: int) -> FeatureSpec:
    """Names, channels and grids of the chosen levels and the mask, for an input of `size` pixels a side."""
    maps = [
        MapSpec(f"stride{stride}", student.channels[student.level_of(stride)], (size // stride,) * 2, stride)
        for stride in strides
    ]
    if student.classes == 1:
        maps.append(MapSpec(MASK, 1, (size // MASK_STRIDE,) * 2, MASK_STRIDE))
    return FeatureSpec(tuple(maps))


def on_bytes(values: Sequence[float]) -> tuple[float, float, float]:
    """Statistics of [0, 1] on the scale of 0 to 255."""
    red, green, blue = (round(value * 255, 6) for value in values)
    return red, green, blue
