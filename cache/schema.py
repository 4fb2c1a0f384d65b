"""The schemas of manifest, shard header and codec file, which are checked when a file is read and before it is used.

Every check raises ValueError with a clause that names the field; the caller adds the name of the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

from cache.shells import shells_of
from cache.spec import VIEWS

MAX_DEPTH = 64
"""JSON that is nested deeper is refused; the identity of a task teacher, the deepest in use, has 6 levels."""

MAX_SIDE = 1 << 20
"""Channels, rows, columns and strides are at most this."""

ITEM_BYTES = {"U8": 1, "U32": 4, "F32": 4}
"""The element types of a cache's tensors, as safetensors names them, and their bytes."""

LARGEST_COSINE = 1.001
"""The largest mean cosine, with rounding."""

CODEC_TENSORS = ("mean", "scale", "basis", "variances")
SHELL_TENSORS = ("center", "turns")
"""The additional tensors of a codec of format 2."""
CODEC_NUMBERS: dict[str, tuple[float, float]] = {
    "gain": (1e-18, 1e18),  # squares of these stay within float32
    "step": (1e-18, 1e18),
    "dead_zone": (0.01, 1),
    "lost": (0, 1e38),
    "asked": (1e-9, 1),
    "reached": (-LARGEST_COSINE, LARGEST_COSINE),
    "spread": (0, 2),
}
"""The real numbers of a codec, each with its smallest and largest value."""

_CODEC_COUNTS = ("held_out", "images")


class TensorPlace(NamedTuple):
    """A tensor as a safetensors header describes it; `start` and `stop` are bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def parse(text: bytes | str) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value of a text; ValueError for damaged or deeply nested JSON."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def check_depth(value: Any, left: int = MAX_DEPTH) -> None:  # noqa: ANN401 - any JSON value
    """Raises ValueError if a JSON value is nested deeper than `left` levels."""
    if isinstance(value, (dict, list)):
        if left == 0:
            raise ValueError(f"its JSON is nested deeper than {MAX_DEPTH} levels")
        for part in value.values() if isinstance(value, dict) else value:
            check_depth(part, left - 1)


def parse_header(header: bytes) -> tuple[dict[str, TensorPlace], dict[str, Any]]:
    """The tensors and the metadata of a safetensors header; ValueError unless types, shapes and offsets agree."""
    value = parse(header)
    if not isinstance(value, dict) or not isinstance(metadata := value.pop("__metadata__", None), dict):
        raise ValueError("its header holds no metadata")
    return {name: _place(name, tensor) for name, tensor in value.items()}, metadata


def check_manifest(data: Mapping[str, Any]) -> None:
    """Raises ValueError unless `data` has every field of a manifest, each of the right kind, and all agree."""
    check_depth(data)
    for name, (holds, expected) in _MANIFEST.items():
        if not holds(data.get(name)):
            raise ValueError(f"expected {name} to be {expected}, got {_shortened(data.get(name))}")
    names = [entry["name"] for entry in data["spec"]]
    if sorted(data["codecs"]) != sorted(names):
        raise ValueError(f"expected codecs of the maps {sorted(names)}, got {sorted(data['codecs'])}")
    for name, entry in data["codecs"].items():
        if entry["file"] != codec_file(name):
            raise ValueError(f"expected the file {codec_file(name)} for the codec, got {_shortened(entry['file'])}")


def codec_file(name: str) -> str:
    """The file name of a map's codec; the manifest may name no other."""
    return f"codec-{name}.safetensors"


def check_codec(tensors: Mapping[str, TensorPlace], numbers: Any) -> None:  # noqa: ANN401 - any JSON value
    """Raises ValueError unless a codec's tensors fit one another and its numbers lie within their bounds."""
    plain, turned = set(CODEC_TENSORS), {*CODEC_TENSORS, *SHELL_TENSORS}
    if set(tensors) not in (plain, turned) or any(tensor.dtype != "F32" for tensor in tensors.values()):
        names = f"{', '.join(CODEC_TENSORS)}, and in format 2 {' and '.join(SHELL_TENSORS)}"
        raise ValueError(f"expected the float32 tensors {names}")
    mean, scale, basis, variances = (tensors[name].shape for name in CODEC_TENSORS)
    fits = len(mean) == 1 and scale == mean and len(basis) == 2 and len(variances) == 3
    if not fits or basis != (mean[0], variances[0]) or not 1 <= variances[0] <= mean[0] or min(variances) < 1:
        raise ValueError(
            "expected mean (C,), scale (C,), basis (C, K), variances (K, h, w) with 1 <= K <= C, got "
            f"{mean}, {scale}, {basis}, {variances}"
        )
    if set(tensors) == turned:
        center, turns = (tensors[name].shape for name in SHELL_TENSORS)
        wanted = (len(shells_of((variances[1], variances[2]))), variances[0], variances[0])
        if center != variances or turns != wanted:
            raise ValueError(f"expected center {variances} and turns {wanted}, got {center}, {turns}")
    expected = {*CODEC_NUMBERS, *_CODEC_COUNTS, "entropy"}
    if not isinstance(numbers, dict) or set(numbers) != expected:
        raise ValueError(f"expected the numbers {', '.join(sorted(expected))}")
    for name, (low, high) in CODEC_NUMBERS.items():
        if not _is_number(numbers[name], low, high):
            raise ValueError(f"expected {name} from {low:g} to {high:g}, got {_shortened(numbers[name])}")
    for name in _CODEC_COUNTS:
        if not _is_whole(numbers[name], 1):
            raise ValueError(f"expected {name} to be a whole number of at least 1, got {_shortened(numbers[name])}")
    if not isinstance(numbers["entropy"], str):
        raise ValueError(f"expected entropy to be the name of a coder, got {_shortened(numbers['entropy'])}")


def check_shard_facts(facts: Any, *, most: int) -> None:  # noqa: ANN401 - any JSON value
    """Raises ValueError unless a shard's metadata has `manifest`, `records` (1 to `most`) and `fidelity` by map."""
    if not isinstance(facts, dict) or not isinstance(facts.get("manifest"), str):
        raise ValueError("expected a manifest digest")
    if not _is_whole(facts.get("records"), 1, most):
        raise ValueError(f"expected 1 to {most} records")
    reached = facts.get("fidelity")
    if not isinstance(reached, dict) or not all(
        _is_number(value, -LARGEST_COSINE, LARGEST_COSINE) for value in reached.values()
    ):
        raise ValueError("expected a fidelity from -1 to 1 for each map")


def _place(name: str, tensor: Any) -> TensorPlace:  # noqa: ANN401 - any JSON value
    try:
        dtype, shape, (start, stop) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
        numbers = (*shape, start, stop)
        whole = len(numbers) <= 6 and {*map(type, numbers)} == {int} and min(numbers) >= 0
        if whole and stop - start == prod(shape) * ITEM_BYTES[dtype]:
            return TensorPlace(dtype, tuple(shape), start, stop)
    except (KeyError, TypeError, ValueError):  # faster than checks beforehand: this runs for every tensor of a shard
        pass
    raise ValueError(f"type, shape and offsets of tensor {_shortened(name)} do not agree")


def _is_whole(value: Any, low: int, high: int = 1 << 62) -> bool:  # noqa: ANN401
    return type(value) is int and low <= value <= high


def _is_side(value: Any) -> bool:  # noqa: ANN401
    return _is_whole(value, 1, MAX_SIDE)


def _is_number(value: Any, low: float, high: float) -> bool:  # noqa: ANN401
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_text(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, str)


def _is_list_of(value: Any, holds: Callable[[Any], bool], *, most: int = 1 << 62) -> bool:  # noqa: ANN401
    return isinstance(value, list) and len(value) <= most and all(map(holds, value))


def _is_dict_of(value: Any, holds: Callable[[Any], bool]) -> bool:  # noqa: ANN401
    return isinstance(value, dict) and all(map(holds, value.values()))


def _is_map(value: Any) -> bool:  # noqa: ANN401
    return (
        isinstance(value, dict)
        and _is_text(value.get("name"))
        and _is_side(value.get("channels"))
        and _is_side(value.get("stride"))
        and _is_list_of(value.get("grid"), _is_side)
        and len(value["grid"]) == 2
    )


def _is_codec_entry(value: Any) -> bool:  # noqa: ANN401
    return (
        isinstance(value, dict)
        and all(_is_text(value.get(name)) for name in ("file", "sha256", "entropy"))
        and _is_number(value.get("spread"), *CODEC_NUMBERS["spread"])
        and _is_whole(value.get("held_out"), 1)
    )


def _are_views(value: Any) -> bool:  # noqa: ANN401
    return _is_list_of(value, lambda view: view in VIEWS) and 1 <= len(value) == len(set(value))


def _shortened(value: Any) -> str:  # noqa: ANN401
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


_MANIFEST: dict[str, tuple[Callable[[Any], bool], str]] = {
    "version": (lambda value: type(value) is int, "a whole number"),
    "spec": (
        lambda value: _is_list_of(value, _is_map) and len(value) > 0,
        f"a list of maps with name, channels, grid and stride, each size from 1 to {MAX_SIDE}",
    ),
    "identity": (lambda value: isinstance(value, dict), "a JSON object"),
    "views": (_are_views, f"some of {', '.join(VIEWS)}, each once"),
    "fidelity": (lambda value: _is_number(value, 1e-9, 1), "a number above 0 and at most 1"),
    "codecs": (
        lambda value: _is_dict_of(value, _is_codec_entry),
        "file, sha256, entropy, spread and held_out of each map",
    ),
    "calibration": (lambda value: _is_list_of(value, _is_text), "a list of keys"),
    "batch_size": (lambda value: _is_whole(value, 1, MAX_SIDE), "a whole number of at least 1"),
    "licence": (_is_text, "a text"),
    "versions": (lambda value: _is_dict_of(value, _is_text), "a version for each library"),
    "terms": (lambda value: value is None or _is_dict_of(value, _is_text), "a text for each data set"),
}
