"""The files of a teacher's weights (in a folder, at a path, in the hub's cache or on the hub) and their config.json.

Safetensors files are read and, for teachers that were published that way, original checkpoints (`checkpoint.py`). Any
other pickle can run code when it is opened, so none is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teachers.weights.checkpoint import SUFFIXES
from teachers.weights.hub import NotOnHubError, download

MODEL, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class WeightFiles:
    """A safetensors file or an original checkpoint, with the teacher and the example hub id that messages name."""

    model: Path
    teacher: str
    example: str

    @property
    def config(self) -> Path | None:
        """The config.json beside a safetensors file, if there is one."""
        path = self.model.with_name(CONFIG)
        return path if path.is_file() and self.model.suffix not in SUFFIXES else None


def locate(weights: str | Path, *, teacher: str, example: str, originals: bool = False) -> WeightFiles:
    """Finds weights in a local folder, a local file, the hub's cache, or on the hub, in this order.

    No socket is opened if the user is offline (`HF_HUB_OFFLINE=1`) or the weights are already here.

    Args:
        weights: a folder with model.safetensors, the path of a safetensors file, or a hub id `owner/name`.
        teacher: the name in messages of the adapter that reads them.
        example: a hub id that a message may recommend.
        originals: whether the path of an original checkpoint, `.pth` or `.pt`, is accepted too. The file itself must
            be named: none is opened only because it lies in a folder.

    Raises:
        FileNotFoundError: if there are none; the message names the places searched and the command that gets them.
        ValueError: if the weights are a pickle.
    """
    path = Path(weights).expanduser()
    if path.suffix in _PICKLES and not (originals and path.suffix in SUFFIXES):
        raise ValueError(_pickle_sentence(path, example))
    if path.is_dir():
        path = _in_folder(path, example, originals)
    elif _HUB_ID.fullmatch(str(weights)) and path.suffix not in (".safetensors", *SUFFIXES) and not path.is_file():
        path = _on_the_hub(str(weights), path)
    elif not path.is_file():
        raise FileNotFoundError(
            f"no weights at '{weights}': looked for a file or folder at {path.resolve()}; give a folder with {CONFIG} "
            f"and {MODEL}, or get one with `hf download {example}` and give its hub id, {example}"
        )
    return WeightFiles(path, teacher, example)


def _in_folder(folder: Path, example: str, originals: bool) -> Path:
    if (folder / MODEL).is_file():
        return folder / MODEL
    pickles = sorted(entry for entry in folder.iterdir() if entry.suffix in _PICKLES)
    if pickles:
        itself = f"; or name an original checkpoint itself, weights={pickles[0]}" if originals else ""
        raise ValueError(_pickle_sentence(pickles[0], example) + itself)
    raise FileNotFoundError(
        f"no weights in {folder.resolve()}: looked for {MODEL} there; "
        f"`hf download {example} --local-dir {folder}` gets one"
    )


def _on_the_hub(hub_id: str, path: Path) -> Path:
    from huggingface_hub import constants

    try:
        return download(hub_id, (MODEL, CONFIG))[0]
    except NotOnHubError as failure:
        raise FileNotFoundError(
            f"no weights for '{hub_id}': looked for a file or folder at {path.resolve()} and {hub_id} in the hub's "
            f"cache {constants.HF_HUB_CACHE}; {failure}; get them where there is a network with `hf download "
            f"{hub_id}`, or give a local folder with {CONFIG} and {MODEL}"
        ) from failure


def beside(files: WeightFiles, weights: str, name: str) -> Path | None:
    """A further file of a folder or hub id, if there is one."""
    path = files.model.with_name(name)
    if path.is_file() or Path(weights).expanduser().exists():
        return path if path.is_file() else None
    try:
        return download(weights, (name,))[0]
    except NotOnHubError:
        return None


def _pickle_sentence(path: Path, example: str) -> str:
    return (
        f"{path} is a pickle, which can run code when it is opened, so it was not opened: expected a safetensors file; "
        f'`hf download {example}` gets one, or convert a file that you trust with `python -c "import torch, '
        f"safetensors.torch as s; s.save_file(torch.load('{path.name}', weights_only=True), "
        f"'{path.with_suffix('.safetensors').name}')\"`"
    )


def read_config(path: Path | None) -> dict[str, Any]:
    """The JSON object in a config file, empty if there is no file.

    Raises:
        ValueError: if the file holds no JSON object.
    """
    if path is None:
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); download the folder again") from error
    if not isinstance(config, dict):
        raise ValueError(f"expected a JSON object in {path}, got {type(config).__name__}; download the folder again")
    return config


def require_config(files: WeightFiles) -> dict[str, Any]:
    """The config.json beside the weights.

    Raises:
        FileNotFoundError: if there is none; the message names the command that gets a whole folder.
    """
    if files.config is None:
        raise FileNotFoundError(
            f"no {CONFIG} beside {files.model}: looked for {files.model.with_name(CONFIG)}; "
            f"`hf download {files.example}` gets a whole folder"
        )
    return read_config(files.config)


def other_kind(files: WeightFiles, raw: Mapping[str, Any], needs: str) -> ValueError:
    """The error for weights whose config.json, `raw`, describes another model than the teacher needs."""
    return ValueError(
        f"{files.config or files.model} describes a model of type '{raw.get('model_type')}', but teacher "
        f"'{files.teacher}' needs {needs}; `hf download {files.example}` gets one"
    )


def require_kind(files: WeightFiles, kinds: Sequence[str]) -> dict[str, Any]:
    """The config.json beside the weights, which must describe a model of one of `kinds`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it describes another kind of model.
    """
    raw = require_config(files)
    if raw.get("model_type") not in kinds:
        raise other_kind(files, raw, " or ".join(map(repr, kinds)))
    return raw


def vision_config(files: WeightFiles, kinds: Sequence[str], *, checkpoint: str) -> tuple[str, dict[str, Any]]:
    """The kind of a whole model, or of its vision encoder alone, and the encoder's settings, from config.json.

    Raises:
        FileNotFoundError, ValueError: as `require_kind`, or if the weights are an original checkpoint of another model.
    """
    if files.model.suffix in SUFFIXES:
        raise ValueError(
            f"{files.model} is not an original checkpoint of teacher '{files.teacher}': it holds no tensor "
            f"image_encoder.*; give {checkpoint}, say, or weights={files.example}"
        )
    raw = require_kind(files, kinds)
    kind = str(raw["model_type"])
    whole = raw.get("detector_config") or raw  # a video model of SAM 3 has it
    return kind, raw if kind.endswith("_vision_model") else dict(whole.get("vision_config") or {})


def sides_of(config: Any, place: str | Path) -> tuple[int, int]:  # noqa: ANN401
    """Sides of the square image and of a patch, in pixels, from a configuration of `transformers`.

    Raises:
        ValueError: if the patches do not cover the image.
    """
    image, patch = config.image_size, config.patch_size
    if not isinstance(image, int) or not isinstance(patch, int) or image % patch:
        raise ValueError(
            f"expected image_size in {place} to be a multiple of patch_size {patch}, got {image}; correct the file"
        )
    return image, patch
