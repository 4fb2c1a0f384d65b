"""Networks of `transformers`: the names of tensors in its files, and strict loading.

Versions of the library rename modules, files keep the names they were published with, and its loader converts between
them. So a file is compared under the names in files and loaded by the library itself, which also fills buffers that no
file holds (indices of relative positions, frequencies of rotary ones).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from teachers.weights.tensors import Shapes, read_shapes, read_state

# Settings of a config.json that say nothing about the features.
_INCIDENTAL = ("architectures", "torch_dtype", "dtype", "transformers_version", "out_features", "out_indices")


def file_shapes(network: Any) -> dict[str, tuple[int, ...]]:  # noqa: ANN401
    """Name and shape of every tensor in a file that `transformers` would write of the network (on the meta device)."""
    own = network.state_dict()
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # before version 5 modules have the same names as in files
        pass
    else:
        own = revert_weight_conversion(network, own)
    return {name: tuple(value.shape) for name, value in own.items()}


def load_network(
    kind: Any,  # noqa: ANN401
    config: Any,  # noqa: ANN401
    path: Path,
    *,
    title: str,
    name_of: Callable[[str], str] = str,
    unread: Sequence[str] = (),
    rest: Sequence[str] = (),
) -> nn.Module:
    """A network of `transformers` with the tensors of a file in float32.

    Args:
        kind: its class.
        config: its configuration.
        path: the file; it may hold a larger model, in which all names of the network have a prefix.
        title: the network's name in messages.
        name_of: name in the files of `transformers` -> name in this file, after the prefix.
        unread: parts of the names of tensors that nothing here reads; a file need not hold them.
        rest: how names of tensors outside the network begin, after the prefix.

    Raises:
        ValueError: as in `require_shapes`.
    """
    with torch.device("meta"):
        network = kind(config, **_options(kind))
    expected = {name: shape for name, shape in file_shapes(network).items() if not _has(name, unread)}
    found = read_shapes(path)
    prefix = _prefix_of([name_of(name) for name in expected], found)
    state = read_state(
        path,
        expected,
        network=title,
        name_of=lambda name: prefix + name_of(name),
        rest=tuple(prefix + name for name in rest),
        found={name: shape for name, shape in found.items() if name.startswith(prefix) and not _has(name, unread)},
    )
    return network_of(kind, config, state, unread=unread)


def network_of(kind: Any, config: Any, state: Mapping[str, Tensor], *, unread: Sequence[str] = ()) -> Any:  # noqa: ANN401
    """A network of `transformers` from tensors named as in its files; other arguments as in `load_network`."""
    with without_progress_bar():
        network, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=state,
            output_loading_info=True,
            torch_dtype=torch.float32,  # no matter what config.json says
            **_options(kind),
        )
    missed = {key: [name for name in names if not _has(name, unread)] for key, names in report.items()}
    assert not any(missed.values()), missed
    return network


def _options(kind: Any) -> dict[str, bool]:  # noqa: ANN401
    """The options that leave out a pooling layer, which no map needs."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}


def _has(name: object, parts: Sequence[str]) -> bool:
    return any(part in str(name) for part in parts)


def settings_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a config.json on which features may depend: numbers, strings and lists of them, by name."""

    def is_plain(value: object) -> bool:
        return all(isinstance(one, (int, float, str)) for one in (value if isinstance(value, list) else [value]))

    return {key: raw[key] for key in sorted(raw) if key not in _INCIDENTAL and is_plain(raw[key])}


def _prefix_of(expected: Sequence[str], found: Shapes) -> str:
    """The prefix of a network's names in the file of a larger model; empty if that fits equally well."""
    candidates = {""}
    for name in expected[:1]:
        candidates |= {place.removesuffix(name) for place in found if place.endswith(f".{name}")}
    return max(sorted(candidates), key=lambda prefix: sum(prefix + name in found for name in expected))


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Keeps `transformers` from drawing progress bars and from advising on tensors that nothing reads."""
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
