"""The tensors of a safetensors file or an original checkpoint: names, shapes, and loading into a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from teachers.weights.checkpoint import SUFFIXES, read_checkpoint

Network = TypeVar("Network", bound=nn.Module)
Shapes = Mapping[str, tuple[int, ...]]  # name of a tensor -> its shape


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a checkpoint, or in a safetensors file, of which only the header is read.

    Raises:
        ValueError: if the file is neither, or is truncated.
    """
    if path.suffix in SUFFIXES:
        return {name: tuple(value.shape) for name, value in read_checkpoint(path).items()}
    return _read(path, lambda file, name: tuple(file.get_slice(name).get_shape()))


def read_tensors(path: Path, names: Container[str]) -> dict[str, Tensor]:
    """The tensors of these names, with floating-point ones as float32. Others are not read.

    Raises:
        ValueError: if the file is neither a safetensors file nor a checkpoint, or is truncated.
    """
    if path.suffix in SUFFIXES:
        # Copied out of the mapped file, which may change while the network is in use.
        tensors = {name: value.clone() for name, value in read_checkpoint(path).items() if name in names}
    else:
        tensors = _read(path, lambda file, name: file.get_tensor(name), names)
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _read(path: Path, read: Callable[[Any, str], Any], names: Container[str] | None = None) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: read(file, name) for name in file.keys() if names is None or name in names}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file (a git-LFS pointer, or half a download?): {error}; download it "
            "again"
        ) from error


def require_shapes(found: Shapes, expected: Shapes, *, path: Path, network: str) -> None:
    """Refuses weights that are not exactly those of a network.

    Raises:
        ValueError: if they differ; the message names missing and unknown tensors, or the first of another shape.
    """
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        lists = [_list(verb, names) for verb, names in (("lacks", missing), ("holds unknown", extra)) if names]
        raise ValueError(f"{path} is not the weights of {network}: it {' and '.join(lists)}; give the matching file")
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
    found: Shapes, name: str, *, dimensions: int, path: Path, network: str, prefix: str = ""
) -> tuple[int, ...]:
    """The shape of a tensor from which the size of a network follows; its name in the file has a prefix.

    Raises:
        ValueError: if the tensor is missing, empty or of another number of dimensions.
    """
    shape = found.get(prefix + name, ())
    if len(shape) != dimensions or min(shape) < 1:
        raise ValueError(
            f"{path} is not the weights of {network}: expected {prefix}{name} of {dimensions} dimensions, from which "
            f"the size of the network follows, got {shape or 'none'}; give the published file"
        )
    return shape


def read_state(
    path: Path,
    expected: Shapes,
    *,
    network: str,
    name_of: Callable[[str], str] = str,
    rest: tuple[str, ...] = (),
    found: Shapes | None = None,
) -> dict[str, Tensor]:
    """The tensors of a network in float32, from a file that must hold exactly these; others are not read.

    Args:
        path: the file.
        expected: name and shape of every tensor of the network.
        network: its name in messages.
        name_of: name in the network -> name in the file; tensors with the same name there are parts of one tensor.
        rest: prefixes of names in the file that belong to another part.
        found: name and shape of the tensors in the file that count; all if None.

    Raises:
        ValueError: as in `require_shapes`.
    """
    found = read_shapes(path) if found is None else found
    places, wanted = layout(expected, name_of)
    own = {name: shape for name, shape in found.items() if name in places or not name.startswith(rest)}
    require_shapes(own, wanted, path=path, network=network)
    state: dict[str, Tensor] = {}
    for place, value in read_tensors(path, places).items():
        names = places[place]
        state.update(zip(names, value.chunk(len(names)) if len(names) > 1 else (value,), strict=True))
    return state


def layout(expected: Shapes, name_of: Callable[[str], str]) -> tuple[dict[str, list[str]], dict[str, tuple[int, ...]]]:
    """The network's tensors in each tensor of a file, and the file's shapes; arguments as in `read_state`."""
    places: dict[str, list[str]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in expected.items():
        place = name_of(name)
        places.setdefault(place, []).append(name)
        shapes[place] = (shapes[place][0] + shape[0], *shape[1:]) if place in shapes else shape
    return places, shapes


def build_network(build: Callable[[], Network], path: Path, **how: Any) -> Network:  # noqa: ANN401
    """The network that `build` makes, with the tensors of a file; arguments and errors as in `read_state`."""
    with torch.device("meta"):  # so that nothing is initialised only to be overwritten
        network = build()
    network.load_state_dict(read_state(path, shapes_of(network), **how), strict=True, assign=True)
    return network


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    partial = path.with_name(f"{path.name}.partial")
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial)
    partial.replace(path)


def _list(verb: str, names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{verb} {len(names)} tensor{'s' if len(names) > 1 else ''} ({shown})"


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
