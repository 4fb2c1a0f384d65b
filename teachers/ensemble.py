"""Several published students as one teacher: folds or seeds of a training, whose soft masks are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cache.spec import LOGIT_CLIP, MASK
from teachers.base import Teacher
from teachers.choice import Choice
from teachers.student import EXAMPLE, Pyramid, StudentTeacher
from teachers.weights.locate import MODEL


class EnsembleTeacher(Teacher):
    """Maps `stride8`, `stride16`, ... of the first student; and `mask`, the logit of the mean probability of all."""

    example = EXAMPLE

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> EnsembleTeacher:
        """Loads students given with commas between, or a folder with one in each sub-folder.

        Other arguments and errors as in `teachers.load`; `strides` as for `student`.

        Raises:
            ValueError: they are fewer than two, or do not fit one another.
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
            member.levels = []  # of the others the mask alone is wanted

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps of (N, 3, S, S); the last is the logit of the mean probability."""
        maps = [member(pixels) for member in self.members]
        mean = torch.stack([each[-1].float().sigmoid() for each in maps]).mean(0)
        return [*maps[0][:-1], mean.logit().clamp(-LOGIT_CLIP, LOGIT_CLIP)]


def places_of(weights: str | Path) -> list[str]:
    """The places of the students: those between commas, or the sub-folders that hold one; else the place itself."""
    path = Path(weights).expanduser()
    if path.is_dir() and not (path / MODEL).is_file():
        return [str(file.parent) for file in sorted(path.glob(f"*/{MODEL}"))] or [str(path)]
    if path.exists():
        return [str(path)]
    return [place.strip() for place in str(weights).split(",") if place.strip()]
