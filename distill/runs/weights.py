"""The trained student, with its tensors checked against their recorded digests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

import cache
from distill.runs.build import build_student
from distill.runs.run import Run
from distill.runtime.tensor_files import digest_tensors, read_tensors

DIGEST = "weights_sha256"  # the entry of train.json


def read_trained(run: Run) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """train.json, and the tensors that `train` kept, by name, on the CPU.

    Raises:
        FileNotFoundError: training is not complete, or its weights have been removed.
        ValueError: the files are not what training wrote; the message says what to do.
    """
    run.require_trained()
    cure = (
        "put it back as it was (a published student's model.safetensors holds the same tensors), or delete "
        f"{run.trained.name} and the folder checkpoints in {run.folder} to train anew"
    )
    summary = run.read_summary()
    recorded = summary.get(DIGEST)
    tensors, _ = read_tensors(run.weights, cure=cure)
    if recorded is not None and recorded != (found := digest_tensors(tensors)):
        raise ValueError(
            f"{run.weights} is damaged (expected tensors of sha256 {recorded[:12]}, as {run.trained.name} records, got "
            f"{found[:12]}); {cure}"
        )
    return summary, tensors


def load_student(run: Run, caches: Mapping[str, cache.Cache] | None = None) -> Any:  # noqa: ANN401
    """The student that `train` kept, in eval mode on the CPU; a task decoder's shape follows from its cache.

    Raises:
        FileNotFoundError: none has been trained.
    """
    student = build_student(run.recipe, caches or {})
    _, tensors = read_trained(run)
    student.load_state_dict(tensors)
    return student.eval()
