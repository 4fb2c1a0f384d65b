"""config.json of a published student: its location and allowed values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from students.catalogue import place_of

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
FILE_SUFFIXES = (".safetensors", ".json", ".yaml", ".onnx", ".pt", ".pth", ".ckpt", ".bin", ".zip")  # of no hub id
REMEDY = "publish the student again with distill publish, or download it again"


def read_config(source: str | Path, *, needs: Sequence[str] = ()) -> dict[str, Any]:
    """The config.json of a published student in a folder, on the hub or of the zoo.

    Args:
        source: a folder, a hub id or `zoo:NAME`.
        needs: fields of `FIELDS` that must be there.

    Raises:
        FileNotFoundError: there is no such folder, or it has no `config.json`.
        ValueError: it is not JSON, names no student, or a field of `FIELDS` holds a value that is not allowed.
    """
    path = locate(source, "config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError includes bytes that are not text
        raise ValueError(f"{path} is not JSON ({error}); download or publish the student again") from error
    if not isinstance(config, dict) or not isinstance(config.get("student"), str):
        if path.with_name("task.json").is_file():
            raise ValueError(
                f"{source} is a task teacher, which reads another teacher's features, not images: use it as "
                "teachers.NAME={adapter: task, of: ..., weights: DIR}"
            )
        raise ValueError(f"{source} is not a student published by Bandpass: its config.json names no student")
    check_config(config, source, needs=needs)
    return config


def check_config(config: Mapping[str, Any], source: str | Path, *, needs: Sequence[str] = ()) -> None:
    """Checks the values of all fields of `FIELDS` that are there, and that those in `needs` are there.

    Raises:
        ValueError: a check fails; the message names source, field, value and remedy.
    """
    for name, (expected, holds) in FIELDS.items():
        value = config.get(name)
        if (name in config or name in needs) and not holds(value):
            raise ValueError(
                f"config.json of {source}: expected {name} to be a {expected}, got {json.dumps(value)[:80]}; {REMEDY}"
            )


def locate(source: str | Path, name: str) -> Path:
    """A file of a published student in a folder, of the zoo, or fetched from the hub.

    Raises:
        FileNotFoundError: there is no such folder, it has no such file, or the file cannot be fetched from the hub.
    """
    folder = Path(place_of(source)).expanduser()
    if folder.is_dir():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"expected a published student with {name} in {folder}, found none")
        return folder / name
    if folder.is_file():
        raise FileNotFoundError(f"expected the folder of a published student, got the file {folder}; name its folder")
    if not is_hub_id(str(source)):
        raise FileNotFoundError(
            f"no published student at {source}: no such folder, and neither zoo:NAME nor a hub id (owner/name)"
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(source), name))
    except Exception as error:  # errors of the hub's client and its HTTP library differ between versions
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FileNotFoundError(
            f"no published student at {source}: no such folder, and as a hub id it cannot be fetched: {reason}"
        ) from error


def is_hub_id(source: str) -> bool:
    """Whether a text can only be a hub id: `owner/name`, with no folder `owner` here and no suffix of a file."""
    owner = source.partition("/")[0]
    return bool(HUB_ID.fullmatch(source)) and not Path(owner).exists() and not source.lower().endswith(FILE_SUFFIXES)


def _is_number(value: Any, low: float, high: float) -> bool:  # noqa: ANN401
    """Whether a value is a number from `low` to `high`; nan and true are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _whole(low: int, high: int) -> tuple[str, Callable[[Any], bool]]:
    """A field that holds a whole number, as in `FIELDS`."""
    return f"whole number from {low} to {high}", lambda value: isinstance(value, int) and _is_number(value, low, high)


def _three(low: float, high: float) -> tuple[str, Callable[[Any], bool]]:
    """A field that holds three numbers, as in `FIELDS`."""
    return (
        f"list of three numbers from {low:g} to {high:g}",
        lambda values: isinstance(values, list) and len(values) == 3 and all(_is_number(v, low, high) for v in values),
    )


_PROBABILITY = ("number above 0 and below 1", lambda value: _is_number(value, 0, 1) and 0 < value < 1)

FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # name -> what a value must be, and the test of it
    "student": ("name of a student", lambda value: isinstance(value, str)),
    "image_size": _whole(32, 4096),
    "classes": _whole(1, 255),
    "width": _whole(1, 65536),
    "mean": _three(-1000, 1000),
    "std": _three(1e-6, 1000),
    "threshold": _PROBABILITY,
    "region_threshold": _PROBABILITY,
    "temperature": ("number from 0.01 to 100", lambda value: _is_number(value, 0.01, 100)),
}
