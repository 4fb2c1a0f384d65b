"""The trained student of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cache
from distill.runs.build import build_student
from distill.runs.run import Run
from distill.runs.weights import read_trained


def load_student(run: Run, caches: Mapping[str, cache.Cache] | None = None) -> Any:  # noqa: ANN401
    """The student that `train` kept, in eval mode on the CPU; a task decoder's shape follows from its cache.

    Raises:
        FileNotFoundError: none has been trained.
    """
    student = build_student(run.recipe, caches or {})
    _, tensors = read_trained(run)
    student.load_state_dict(tensors)
    return student.eval()
