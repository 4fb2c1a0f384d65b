"""The trained student of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cache
from distill.runs.checks import build_student
from distill.runs.run import Run


def load_student(run: Run, caches: Mapping[str, cache.Cache] | None = None) -> Any:  # noqa: ANN401
    """The student that `train` kept, in eval mode on the CPU; a task decoder's shape follows from its cache.

    Raises:
        FileNotFoundError: none has been trained.
    """
    from safetensors.torch import load_file

    run.require_trained()
    student = build_student(run.recipe, caches or {})
    student.load_state_dict(load_file(run.weights))
    return student.eval()
