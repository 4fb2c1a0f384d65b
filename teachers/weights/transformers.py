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


def file_shapes(network: Any) -> dict[str, tuple[int, ...]]:  # noqa: ANN401
    """Name and shape of every tensor as `transformers` writes the network into a file."""
    own = network.state_dict()
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # before version 5 modules have the names of files
        return {name: tuple(value.shape) for name, value in own.items()}
    marks = {name: torch.tensor(number) for number, name in enumerate(own)}  # a renamed tensor is known by its mark
    names = {int(mark): name for name, mark in revert_weight_conversion(network, marks).items()}
    assert len(names) == len(own), "a tensor was split or joined; names alone do not tell"
    return {names[number]: tuple(value.shape) for number, value in enumerate(own.values())}


def load_network(
    kind: Any,  # noqa: ANN401
    config: Any,  # noqa: ANN401
    path: Path,
    found: Mapping[str, tuple[int, ...]],
    *,
    unread: Sequence[str] = (),
    title: str,
) -> nn.Module:
    """A network of `transformers` with the tensors of a file in float32.

    Args:
        kind: its class.
        config: its configuration; it may have fewer blocks than the file if `unread` names the others.
        path: the file.
        found: name and shape of every tensor in it.
        unread: parts of names that tell tensors which nothing here reads; a file may hold them or not.
        title: the network's name in messages.

    Raises:
        ValueError: as `require_shapes`.
    """

    def read(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, shape in shapes.items() if not any(part in name for part in unread)}

    with torch.device("meta"):
        network = kind(config)
    expected = read(file_shapes(network))
    require_shapes(read(found), expected, path=path, network=title)
    state = read_tensors(path)
    with without_progress_bar():
        network, report = kind.from_pretrained(
            None, config=config, state_dict={name: state[name] for name in expected}, output_loading_info=True
        )
    missed = {key: read(dict.fromkeys(map(str, names), ())) for key, names in report.items()}
    assert not any(missed.values()), missed
    return network


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
