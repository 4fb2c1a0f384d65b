"""Checkpoints from which training continues bit-exactly: tensors in safetensors, the rest in JSON, never a pickle."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.runs.latest import digest_in
from distill.runs.run import Run
from distill.runtime.tensor_files import read_tensors, write_tensors

logger = logging.getLogger("bandpass")


def checkpoint_of(run: Run) -> Path:
    """The file from which a killed run continues; removed when training is complete."""
    return run.folder / "checkpoints" / "last.safetensors"


def find_checkpoint(run: Run) -> Path | None:
    """The file from which a run continues, the same on all processes; None for a new run."""
    path = checkpoint_of(run)
    there = run.accelerator.is_main_process and recover_checkpoint(path)
    return path if run.agree(lambda: there) else None


def run_of(path: Path) -> str:
    """The run to which a file of checkpoints/ belongs: the digest in its folder's name, or else the name."""
    return digest_in(path.parent.parent.name)


def previous_of(path: Path) -> Path:
    """The checkpoint before the last, kept beside it."""
    return path.with_name("previous.safetensors")


def read_own(path: Path, *, cure: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (any shape) by name, and the record of a file of checkpoints/; errors as of `read_tensors`.

    Args:
        path: of the file.
        cure: what to do if the file is damaged or belongs to another run (older files name no run); ends a sentence.
    """
    run = run_of(path)
    tensors, record = read_tensors(path, cure=cure)
    if (named := record.pop("run", run)) != run:
        raise ValueError(f"{path} is damaged (it belongs to the run {named}); {cure}")
    return tensors, record


def recover_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint; if the last one is damaged or missing, the one before takes its place.

    If that is damaged too, both stay, and `load_checkpoint` says what to do.

    Raises:
        ValueError: there is a folder in place of the file.
    """
    previous = previous_of(path)
    if path.is_dir():
        raise ValueError(f"expected a file at {path}, found a folder; remove it; {previous.name} is used if it exists")
    if not previous.is_file():
        return path.is_file()
    if path.is_file():
        try:
            read_own(path, cure=f"{previous.name}, the one before it, is used")
        except ValueError as error:
            damage = error
        else:
            return True
        try:
            read_own(previous, cure="")
        except ValueError:
            return True
        logger.warning("%s", damage)
    previous.replace(path)
    return True


def remove_checkpoints(path: Path) -> None:
    """Removes the last checkpoint and the one before it."""
    for one in (previous_of(path), path):
        one.unlink(missing_ok=True)


def save_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Saves modules by name, optimiser and `state` (JSON-able) in one file; the previous file is kept beside it."""
    tensors = {
        f"{kind}.{name}": tensor for kind, module in modules.items() for name, tensor in module.state_dict().items()
    }
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    if path.is_file():
        path.replace(previous_of(path))
    write_tensors(path, tensors, {**state, "run": run_of(path)})


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Restores modules and optimiser as `save_checkpoint` saved them, and returns the state.

    Raises:
        ValueError: the file cannot be read, is damaged, or does not fit; the message says what to do.
    """
    cure = "delete it to train from the start"
    tensors, state = read_own(path, cure=cure)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        parts.setdefault(kind, {})[rest] = tensor
    try:
        for kind, module in modules.items():
            module.load_state_dict(parts.get(kind, {}))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise ValueError(f"{path} is not a checkpoint of this training ({reason}); {cure}") from error
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts.get("optimiser", {}).items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = tensor
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    lay_out_as_parameters(optimiser)
    return state


def lay_out_as_parameters(optimiser: torch.optim.Optimizer) -> None:
    """Gives moments the strides of their parameters, as they had before they were saved.

    A fused optimiser on a CPU walks through the memory of both together and does not notice different strides.
    """
    for parameter, slots in optimiser.state.items():
        for name, value in slots.items():
            if value.shape == parameter.shape:
                slots[name] = torch.empty_like(parameter).copy_(value)
