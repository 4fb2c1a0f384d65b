"""A published student as a teacher: its feature pyramid and soft masks (MicroAUNet's scheme, whose teacher is MALUNet).

Several students can also form one teacher: folds or seeds of a training, whose soft masks are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import students
from cache.spec import LOGIT_CLIP, MASK, FeatureSpec, MapSpec
from students import Student
from students.catalogue import places_of
from students.published import LEARNED, require_published
from teachers.base import Teacher
from teachers.choice import Choice, require_multiple, require_strides, require_unset
from teachers.preprocess import SquareResize, statistics_of
from teachers.weights.locate import beside, locate, other_kind, read_config
from teachers.weights.tensors import read_state, sha256, shapes_of

DEFAULT_STRIDES = (16, 8)
MASK_STRIDE = 4  # pixels of the network's input that a cell of the soft mask spans


class StudentTeacher(Teacher):
    """Maps `stride8`, `stride16`, ...: levels of the network's pyramid; and `mask`, the logit of its one class.

    For a student of several classes `mask` holds the logits of all classes, if they are asked for.
    """

    example = "your_name/your_student"

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> StudentTeacher:
        """Loads what `distill publish` wrote or pushed; arguments and errors as in `teachers.load`."""
        own_class = choice.model if choice.model is not None and ":" in choice.model else None
        require_unset(choice, *(("levels",) if own_class else ("model", "levels")), teacher="student")
        files = locate(students.place_of(weights), teacher="student", example=cls.example)
        config, folder = read_config(files.config), files.model.parent
        if "student" not in config:
            raise other_kind(files, config, "a student that distill publish wrote")
        students.check_config(config, folder, needs=("image_size", "mean", "std"))
        for file in filter(None, (files.config, files.model)):
            require_published(file)
        student = students.build(config, folder, trust=own_class)
        state = read_state(files.model, shapes_of(student), network=f"student '{config['student']}'")
        student.load_state_dict(state)
        students.check_finite(student, files.model)
        size = choice.image_size or int(config["image_size"])
        # Students pad to this multiple, no matter which of their maps are chosen.
        require_multiple(size, max(*student.strides, MASK_STRIDE))
        default = [stride for stride in DEFAULT_STRIDES if stride in student.strides] or student.strides[-1:]
        strides = sorted(set(choice.strides or default), reverse=True)
        require_strides(
            strides[::-1], student.strides, network=f"the teacher {weights} (student '{config['student']}')"
        )
        network = Pyramid(student, strides, masks=has_mask(student, choice.classes))
        mean, std = (statistics_of(config[name], name) for name in ("mean", "std"))
        for name in (LEARNED, "README.md"):  # they lie beside the weights; for a student on the hub this fetches them
            beside(files, str(students.place_of(weights)), name)
        labelled = students.learned_keys(folder)
        return cls(
            "student",
            network,
            spec=network.spec(size),
            preprocessing=SquareResize(size, mean, std),
            facts={
                "model": config["student"],
                "strides": strides,
                "weights": sha256(files.model),
                **({"labelled": labelled} if labelled is not None else {}),
            },
            licence=students.licence_of(folder) or "see the student's card",
        )


class Pyramid(nn.Module):
    """A student's levels of chosen strides and, with `masks`, its logits on a coarser grid.

    Raises:
        ValueError: if the student has no level of a stride.
    """

    def __init__(self, student: Student, strides: Sequence[int], *, masks: bool) -> None:
        super().__init__()
        self.student, self.strides, self.masks = student, strides, masks
        self.levels = [student.level_of(stride) for stride in strides]

    def spec(self, size: int) -> FeatureSpec:
        """Names, channels and grids of the maps for an input of `size` pixels a side."""
        named = zip(self.strides, self.levels, strict=True)
        maps = [MapSpec(f"stride{s}", self.student.channels[level], (size // s,) * 2, s) for s, level in named]
        if self.masks:
            maps.append(MapSpec(MASK, self.student.classes, (size // MASK_STRIDE,) * 2, MASK_STRIDE))
        return FeatureSpec(tuple(maps))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The maps of pixels (N, 3, S, S)."""
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        pyramid = self.student.features(pixels)
        maps = [pyramid[level] for level in self.levels]
        if self.masks:
            logits = self.student.decode(pyramid, size)
            if self.student.classes > 1:  # a softmax does not depend on their mean
                logits = logits - logits.mean(dim=1, keepdim=True)
            maps.append(functional.avg_pool2d(logits, MASK_STRIDE).clamp(-LOGIT_CLIP, LOGIT_CLIP))
        return maps


def has_mask(student: Student, classes: Sequence[str] | None) -> bool:
    """Whether a student's soft mask is wanted: always for one class, for several if `classes` is `all`.

    Raises:
        ValueError: if `classes` is something else, or if the student has only one class.
    """
    if classes and (list(classes) != ["all"] or student.classes == 1):
        raise ValueError(
            f"this student tells {student.classes} classes apart, got classes={list(classes)}; give [all] for the soft "
            "masks of several classes, or leave it out"
        )
    return student.classes == 1 or bool(classes)


class EnsembleTeacher(Teacher):
    """Maps `stride8`, `stride16`, ... of the first student; and `mask`, the logit of the mean probability of all."""

    example = StudentTeacher.example

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> EnsembleTeacher:
        """Loads students separated by commas, or a folder with one in each sub-folder.

        Other arguments and errors as in `teachers.load`; `strides` as for `student`.

        Raises:
            ValueError: if there are fewer than two, or they do not fit together.
        """
        members = [StudentTeacher.load(place, choice) for place in places_of(weights)]
        first = members[0]
        if len(members) < 2:
            raise ValueError(
                f"an ensemble averages several students, got one, {weights}; give A,B,... or adapter=student"
            )
        for member in members:
            if MASK not in member.spec.names:
                raise ValueError(f"an ensemble averages the masks of one class, but a student of {weights} has several")
            if member.preprocessing != first.preprocessing:
                raise ValueError(
                    f"the students of an ensemble must see the same pixels, but one of {weights} expects "
                    f"{member.preprocessing.description} and the first {first.preprocessing.description}; leave it "
                    "out, or give image_size"
                )
        facts = [member.identity for member in members]
        labelled = [entry.get("labelled") for entry in facts]
        return cls(
            "ensemble",
            Ensemble([member.network for member in members]),
            spec=first.spec,
            preprocessing=first.preprocessing,
            facts={
                "model": [entry["model"] for entry in facts],
                "strides": facts[0]["strides"],
                "weights": ",".join(entry["weights"] for entry in facts),
                **({} if None in labelled else {"labelled": sorted({key for keys in labelled for key in keys or ()})}),
            },
            licence=" and ".join(sorted({member.licence for member in members})),
        )


class Ensemble(nn.Module):
    """The pyramid of the first student, and the mean of all masks in place of its own."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        for member in members[1:]:
            assert isinstance(member, Pyramid)
            member.levels = []  # the others contribute only their masks

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The maps of pixels (N, 3, S, S); the last one is the logit of the mean probability."""
        maps = [member(pixels) for member in self.members]
        mean = torch.stack([each[-1].float().sigmoid() for each in maps]).mean(0)
        return [*maps[0][:-1], mean.logit().clamp(-LOGIT_CLIP, LOGIT_CLIP)]
