"""Where a teacher's weights are looked for, what is in them, and the sentence when they are not what is needed.

Safetensors files are read, and for teachers that were published so, original checkpoints (`teachers.checkpoint`); any
other pickle can run code when it is opened, so none is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from teachers.checkpoint import SUFFIXES, read_checkpoint
from teachers.hub import NotOnHubError, download

MODEL, CONFIG = "model.safetensors", "config.json"
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class WeightFiles:
    """A safetensors file and the config.json beside it, if there is one; or an original checkpoint without any."""

    model: Path
    config: Path | None


def locate(weights: str | Path, *, example: str, originals: bool = False) -> WeightFiles:
    """Finds weights in a local folder, a local file, the hub's cache, or on the hub, in this order.

    Offline (`HF_HUB_OFFLINE=1`) no socket is opened; neither is one for weights that are already here.

    Args:
        weights: a folder with model.safetensors, the path of a safetensors file, or a hub id `owner/name`.
        example: a hub id that a message may recommend.
        originals: whether the path of an original checkpoint, `.pth` or `.pt`, will do too. It must be named itself:
            nothing is opened only because it lies in a folder.

    Raises:
        FileNotFoundError: if there are none, saying where they were looked for and which command gets them.
        ValueError: if a pickle is offered.
    """
    path = Path(weights).expanduser()
    if originals and path.suffix in SUFFIXES and path.is_file():
        return WeightFiles(path, None)
    if path.suffix in _PICKLES and not (originals and path.suffix in SUFFIXES):
        raise ValueError(_pickle_sentence(path, example))
    if path.is_file():
        return _with_config(path)
    if path.is_dir():
        return _in_folder(path, example, originals)
    if _HUB_ID.fullmatch(str(weights)) and path.suffix not in (".safetensors", *SUFFIXES):
        return _on_the_hub(str(weights), path)
    raise FileNotFoundError(
        f"no weights at '{weights}': looked for a file or folder at {path.resolve()}; give a folder with {CONFIG} and "
        f"{MODEL}, or get one with `hf download {example}` and give its hub id, {example}"
    )


def _with_config(path: Path) -> WeightFiles:
    config = path.with_name(CONFIG)
    return WeightFiles(path, config if config.is_file() else None)


def _in_folder(folder: Path, example: str, originals: bool) -> WeightFiles:
    if (folder / MODEL).is_file():
        return _with_config(folder / MODEL)
    pickles = sorted(entry for entry in folder.iterdir() if entry.suffix in _PICKLES)
    if pickles:
        itself = f"; or name an original checkpoint itself, weights={pickles[0]}" if originals else ""
        raise ValueError(_pickle_sentence(pickles[0], example) + itself)
    raise FileNotFoundError(
        f"no weights in {folder.resolve()}: looked for {MODEL} there; "
        f"`hf download {example} --local-dir {folder}` gets one"
    )


def _on_the_hub(hub_id: str, path: Path) -> WeightFiles:
    from huggingface_hub import constants

    try:
        return WeightFiles(*download(hub_id, (MODEL, CONFIG)))
    except NotOnHubError as failure:
        raise FileNotFoundError(
            f"no weights for '{hub_id}': looked for a file or folder at {path.resolve()} and {hub_id} in the hub's "
            f"cache {constants.HF_HUB_CACHE}; {failure}; get them where there is a network with `hf download "
            f"{hub_id}`, or give a local folder with {CONFIG} and {MODEL}"
        ) from failure


def _pickle_sentence(path: Path, example: str) -> str:
    return (
        f"{path} is a pickle, which can run code when it is opened, so it was not: expected a safetensors file; "
        f'`hf download {example}` gets one, or convert a file that you trust with `python -c "import torch, '
        f"safetensors.torch as s; s.save_file(torch.load('{path.name}', weights_only=True), "
        f"'{path.with_suffix('.safetensors').name}')\"`"
    )


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a config file.

    Raises:
        ValueError: if it is none.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); download the folder again") from error
    if not isinstance(config, dict):
        raise ValueError(f"expected a JSON object in {path}, got {type(config).__name__}; download the folder again")
    return config


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
        ValueError: naming what is missing, what is left over, or the first tensor of another size.
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


def put_tensors(
    network: nn.Module,
    path: Path,
    found: Mapping[str, tuple[int, ...]],
    *,
    names: Mapping[str, str],
    prefix: str,
    rest: tuple[str, ...],
    called: str,
) -> None:
    """Puts a file's tensors into a network on the meta device, strictly; of a safetensors file only these are read.

    Args:
        network: whose tensors they become.
        path: the file.
        found: name and shape of every tensor in it.
        names: name in the network -> name in the file, without `prefix`.
        prefix: what the names of the network's tensors in the file begin with.
        rest: beginnings of names in the file that are another part's.
        called: the network's name in messages.

    Raises:
        ValueError: as `require_shapes`.
    """
    require_shapes(
        {name: shape for name, shape in found.items() if not name.startswith(rest)},
        {prefix + names[name]: tuple(value.shape) for name, value in network.state_dict().items()},
        path=path,
        network=called,
    )
    tensors = read_tensors(path, prefix=prefix)
    network.load_state_dict({name: tensors[place] for name, place in names.items()}, strict=True, assign=True)


def require_config(files: WeightFiles, *, example: str) -> Path:
    """The config.json beside the weights.

    Raises:
        FileNotFoundError: there is none; the message says which command gets a whole folder.
    """
    if files.config is None:
        raise FileNotFoundError(
            f"no {CONFIG} beside {files.model}: looked for {files.model.with_name(CONFIG)}; "
            f"`hf download {example}` gets a whole folder"
        )
    return files.config


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
