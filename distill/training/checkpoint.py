"""Checkpoints from which training continues bit-exactly: tensors in safetensors, the rest in JSON, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.runs.run import Run
from distill.runtime.tensor_files import read_tensors, write_tensors


def checkpoint_of(run: Run) -> Path:
    """The file that a killed run continues from; removed when training is complete."""
    return run.folder / "checkpoints" / "last.safetensors"


def save_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Modules by name, optimiser and `state` (JSON-able: counters, scaler) in one file, replacing the last."""
    tensors = {
        f"{kind}.{name}": tensor for kind, module in modules.items() for name, tensor in module.state_dict().items()
    }
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    write_tensors(path, tensors, state)


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts modules and optimiser back where `save_checkpoint` saw them and returns the state.

    Raises:
        ValueError: the file cannot be read or is damaged, with what to do.
    """
    tensors, state = read_tensors(path, cure="delete it to train from the start")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        parts.setdefault(kind, {})[rest] = tensor
    for kind, module in modules.items():
        module.load_state_dict(parts.get(kind, {}))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts.get("optimiser", {}).items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = tensor
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    return state
