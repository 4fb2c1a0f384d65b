"""Networks of `transformers`: the names of tensors in its files, and strict loading.

Its versions rename modules, while files keep the names they were published with, and its loader turns one into the
other. So a file is compared under the names of files, and loaded by the library itself, which also fills buffers that
no file holds (indices of relative positions, frequencies of rotary ones).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from teachers.weights.tensors import read_tensors, require_shapes

# Settings of a config.json that say nothing about the features.
_INCIDENTAL = ("architectures", "torch_dtype", "dtype", "transformers_version", "out_features", "out_indices")


def file_shapes(network: Any) -> dict[str, tuple[int, ...]]:  # noqa: ANN401
    """Name and shape of every tensor as `transformers` writes the network, on the meta device, into a file."""
    own = network.state_dict()
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # before version 5 modules have the names of files
        pass
    else:
        own = revert_weight_conversion(network, own)
    return {name: tuple(value.shape) for name, value in own.items()}


def load_network(
    kind: Any,  # noqa: ANN401
    config: Any,  # noqa: ANN401
    path: Path,
    found: Mapping[str, tuple[int, ...]],
    *,
    unread: Sequence[str] = (),
    rest: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    title: str,
) -> nn.Module:
    """A network of `transformers` with the tensors of a file in float32.

    Args:
        kind: its class.
        config: its configuration.
        path: the file; it may be of a larger model, in which all names of the network have a prefix.
        found: name and shape of every tensor in it.
        unread: parts of names that tell tensors which nothing here reads; a file may hold them or not.
        rest: beginnings of names, behind the prefix, of tensors that are no part of the network.
        options: further arguments of the class.
        title: the network's name in messages.

    Raises:
        ValueError: as `require_shapes`.
    """

    def read(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, shape in shapes.items() if not any(part in name for part in unread)}

    options = dict(options or {})
    with torch.device("meta"):
        network = kind(config, **options)
    expected = read(file_shapes(network))
    prefix = _prefix_of(expected, found)
    inside = {name.removeprefix(prefix): name for name in found if name.startswith(prefix)}
    own = {
        place: found[place] for name, place in inside.items() if name in expected or not name.startswith(tuple(rest))
    }
    require_shapes(read(own), {prefix + name: shape for name, shape in expected.items()}, path=path, network=title)
    state = read_tensors(path, prefix=prefix)
    with without_progress_bar():
        network, report = kind.from_pretrained(
            None,
            config=config,
            state_dict={name: state[name] for name in expected},
            output_loading_info=True,
            torch_dtype=torch.float32,  # whatever config.json says
            **options,
        )
    missed = {key: read(dict.fromkeys(map(str, names), ())) for key, names in report.items()}
    assert not any(missed.values()), missed
    return network


def settings_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config.json on which features may depend: numbers, words and lists of them, by name."""

    def is_plain(value: object) -> bool:
        return all(isinstance(one, (int, float, str)) for one in (value if isinstance(value, list) else [value]))

    return {key: raw[key] for key in sorted(raw) if key not in _INCIDENTAL and is_plain(raw[key])}


def _prefix_of(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """The beginning that a network's names have in the file of a larger model; empty where that fits as well."""
    candidates = {""}
    for name in list(expected)[:1]:
        candidates |= {place.removesuffix(name) for place in found if place.endswith(f".{name}")}
    return max(sorted(candidates), key=lambda prefix: sum(prefix + name in found for name in expected))


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Keeps `transformers` from drawing progress bars, and from advice about tensors that nothing reads."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
