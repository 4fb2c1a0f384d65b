"""Accelerate with the recipe's precision and trackers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config.schema import Recipe
from distill.runtime.hardware import precision_here

if TYPE_CHECKING:
    from accelerate import Accelerator

SHARDED = {"FSDP": "FSDP", "DEEPSPEED": "DeepSpeed", "MEGATRON_LM": "Megatron-LM"}  # ACCELERATE_USE_...


@contextmanager
def one_precision() -> Iterator[None]:
    """Restores the precision of this process's accelerator after another run has used its own."""
    from accelerate.state import AcceleratorState

    before = dict(AcceleratorState._shared_state)
    try:
        yield
    finally:
        AcceleratorState._shared_state.clear()  # the same object, because existing accelerators read it
        AcceleratorState._shared_state.update(before)


def start_accelerator(recipe: Recipe) -> Accelerator:
    """The accelerator of a run.

    Raises:
        ValueError: a tracker is not installed, this machine does not support the precision, or Accelerate's
            configuration splits networks over processes.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import GradientAccumulationPlugin

    for variable, title in SHARDED.items():
        if os.environ.get(f"ACCELERATE_USE_{variable}", "").lower() in ("true", "1"):
            raise ValueError(
                f"Accelerate is configured for {title}, which splits a network over GPUs; every network here fits on "
                "one GPU, and each process trains all of it: use a configuration without it, or --multi_gpu"
            )
    installed = [str(tracker) for tracker in get_available_trackers()]
    for tracker in recipe.trackers:
        if tracker not in installed:
            raise ValueError(f"trackers names {tracker}, which is not installed; pip install {tracker}")
    if recipe.precision == "fp16" and not torch.accelerator.is_available():
        raise ValueError("precision is fp16, which needs a GPU; use bf16 or fp32")

    computed = precision_here(recipe.precision)
    precision = "no" if computed == "fp32" else computed
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # Accelerate keeps a process's first precision; a notebook may need two
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # without this, processes without a GPU do not find each other
        mixed_precision=precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # whatever the environment says
        dynamo_backend="no",  # likewise
        log_with=recipe.trackers or None,
        project_dir=str(Path(recipe.home).expanduser() / "trackers"),
    )
