"""Where training stands, so that it continues bit-exactly: tensors in safetensors, the rest in JSON, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from distill.runtime.io import write_bytes

STATE = "state"


def save_tensors(tensors: dict[str, Tensor], path: Path, *, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file so that a reader never sees half of it, even after a power cut.

    Tensors that share memory, as of a module that a network uses under two names, are each written out.
    """
    written: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        written[name] = own.clone() if place in places else own
        places.add(place)
    write_bytes(path, save(written, metadata))


def metadata_of(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself; nothing where it does not."""
    with safe_open(path, framework="pt") as stream:
        return stream.metadata() or {}


def save_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Modules by name, optimiser and `state` (JSON-able: step, best figure, scaler) in one file, replacing the last."""
    tensors = {
        f"{kind}.{name}": tensor for kind, module in modules.items() for name, tensor in module.state_dict().items()
    }
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    save_tensors(tensors, path, metadata={STATE: json.dumps(state, sort_keys=True)})


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts modules and optimiser back where `save_checkpoint` saw them and returns the state.

    Raises:
        ValueError: the file cannot be read, with what to do.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            state = json.loads(stream.metadata()[STATE])
        tensors = load_file(path)
    except Exception as error:
        raise ValueError(f"cannot read the checkpoint {path} ({error}); delete it to train from the start") from error
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
