"""Student and projections."""

from __future__ import annotations

import torch

import students
from distill.distillation.distiller import Distiller
from distill.distillation.targets import Target


def test_a_map_may_have_a_dot_in_its_name():
    target = Target("own", "block.2", "low", stride=16, grid=(4, 4), channels=5, deviation=1.0)
    distiller = Distiller(students.create("unet", width=2), [target])
    _, projected = distiller(torch.zeros(2, 3, 64, 64), (64, 64), (target.name,))
    assert projected[target.name].shape == (2, 5, 4, 4)
