"""Student and projections, the module that a training step runs; only the student is published."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from distill.distillation.targets import Target


class Distiller(nn.Module):
    """A student with one linear projection (1x1 convolution) of its features for each imitated map."""

    def __init__(self, student: Any, targets: Iterable[Target]) -> None:  # noqa: ANN401
        super().__init__()
        self.student = student
        imitated = [target for target in targets if target.band != "mask"]
        self.levels = {target.name: student.level_of(target.stride) for target in imitated}
        self.projections = nn.ModuleDict(
            {
                key_of(target.name): nn.Conv2d(student.channels[self.levels[target.name]], target.channels, 1)
                for target in imitated
            }
        )

    def forward(
        self,
        inputs: Any,  # noqa: ANN401
        size: tuple[int, int],
        names: tuple[str, ...] = (),
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Logits (N, K, *size) of every supervised head, and the projected features (N, C, h, w) of targets in `names`.

        A soft mask has no projection: the logits imitate it.

        Args:
            inputs: the student's input: images (N, 3, *size), or the maps of a teacher (for a task decoder).
            size: height and width of the logits.
            names: of targets.
        """
        pyramid = self.student.features(inputs)
        logits = self.student.heads(pyramid, size)
        return logits, {
            name: self.projections[key_of(name)](pyramid[self.levels[name]]) for name in names if name in self.levels
        }


def key_of(target: str) -> str:
    """A target's name in a form that torch allows for a module; map names may hold dots, but never a colon."""
    return target.replace(".", ":")
