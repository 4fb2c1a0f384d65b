"""The trained student's tensors, checked against the digests that were recorded with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill.runs.state_files import read_summary
from distill.runtime.tensor_files import digest_tensors, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from distill.runs.run import Run

DIGEST = "weights_sha256"  # entries of train.json
LOG = "log_sha256"


def read_trained(run: Run) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """train.json, and the tensors that `train` kept, by name, on the CPU.

    Raises:
        FileNotFoundError: no training is complete, or its weights have been removed.
        ValueError: they are not what training wrote, with what to do.
    """
    run.require_trained()
    cure = (
        "put it back as it was (a published student's model.safetensors holds the same tensors), or delete "
        f"{run.trained.name} and the folder checkpoints in {run.folder} to train anew"
    )
    summary = read_summary(run)
    recorded = summary.get(DIGEST)
    tensors, _ = read_tensors(run.weights, cure=cure)
    if recorded is not None and recorded != (found := digest_tensors(tensors)):
        raise ValueError(
            f"{run.weights} is damaged (expected tensors of sha256 {recorded[:12]}, as {run.trained.name} records, got "
            f"{found[:12]}); {cure}"
        )
    return summary, tensors
