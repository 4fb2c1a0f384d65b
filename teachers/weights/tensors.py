"""The tensors of a safetensors file or an original checkpoint: their names and shapes, and how a network gets them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from teachers.weights.checkpoint import SUFFIXES, read_checkpoint


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a safetensors file, of which only the header is read, or in a checkpoint.

    Raises:
        ValueError: if it is neither, or is cut short.
    """
    if path.suffix in SUFFIXES:
        return {name: tuple(value.shape) for name, value in read_checkpoint(path).items()}
    return _read(path, lambda file, name: tuple(file.get_slice(name).get_shape()))


def read_tensors(path: Path, *, prefix: str = "") -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, which is cut off; floating ones as float32. Others are not read.

    Raises:
        ValueError: if it is neither a safetensors file nor a checkpoint, or is cut short.
    """
    if path.suffix in SUFFIXES:
        # Copied out of the mapped file, which may be changed while the network lives.
        tensors = {name: value.clone() for name, value in read_checkpoint(path).items() if name.startswith(prefix)}
    else:
        tensors = _read(path, lambda file, name: file.get_tensor(name), prefix)
    return {
        name.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
    }


def _read(path: Path, read: Callable[[Any, str], Any], prefix: str = "") -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: read(file, name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file (a git-LFS pointer, or half a download?): {error}; download it "
            "again"
        ) from error


def require_shapes(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], *, path: Path, network: str
) -> None:
    """Refuses weights that are not exactly those of a network.

    Raises:
        ValueError: naming missing and unknown tensors, or the first one of another shape.
    """
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        lists = [_list("lacks", missing), _list("holds unknown", extra)]
        raise ValueError(
            f"{path} is not the weights of {network}: it {' and '.join(filter(None, lists))}; give the matching file"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(
                f"{path} is not the weights of {network}: expected {name} of shape {shape}, got {found[name]}; "
                "give the matching file"
            )


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def shape_of(
    found: Mapping[str, tuple[int, ...]], name: str, *, dimensions: int, path: Path, network: str
) -> tuple[int, ...]:
    """The shape of a tensor from which the size of a network follows.

    Raises:
        ValueError: the tensor is missing, empty or of another number of dimensions.
    """
    shape = found.get(name, ())
    if len(shape) != dimensions or min(shape) < 1:
        raise ValueError(
            f"{path} is not the weights of {network}: expected {name} of {dimensions} dimensions, from which the size "
            f"of the network follows, got {shape or 'none'}; give the published file"
        )
    return shape


def build_network(
    kind: Any,  # noqa: ANN401
    config: Any,  # noqa: ANN401
    path: Path,
    found: Mapping[str, tuple[int, ...]],
    *,
    name_of: Callable[[str], str],
    prefix: str,
    rest: tuple[str, ...],
    title: str,
) -> nn.Module:
    """A network with the tensors of a file in float32, strictly; of a safetensors file only these are read.

    Args:
        kind: its class.
        config: its configuration.
        path: the file.
        found: name and shape of every tensor in it.
        name_of: name in the network -> name in the file, without `prefix`.
        prefix: the beginning of the names of the network's tensors in the file.
        rest: beginnings of names in the file that are another part's.
        title: the network's name in messages.

    Raises:
        ValueError: as `require_shapes`.
    """
    with torch.device("meta"):  # nothing is initialised only to be overwritten
        network: nn.Module = kind(config)
    names = {name: name_of(name) for name in network.state_dict()}
    require_shapes(
        {name: shape for name, shape in found.items() if not name.startswith(rest)},
        {prefix + names[name]: shape for name, shape in shapes_of(network).items()},
        path=path,
        network=title,
    )
    tensors = read_tensors(path, prefix=prefix)
    network.load_state_dict({name: tensors[place] for name, place in names.items()}, strict=True, assign=True)
    return network


def _list(verb: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{verb} {len(names)} tensor{'s' if len(names) > 1 else ''} ({shown})"


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
