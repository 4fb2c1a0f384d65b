"""The available benchmarks, and a request for some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

BENCHES = {  # name -> module; its `measure` turns a `Request` into rows, its `KEYS` explain its own keys
    "cache": "distill.bench.sizes",
    "train": "distill.bench.training",
    "teachers": "distill.bench.teachers",
    "scale": "distill.bench.scale",
    "student": "distill.bench.students",
}


@dataclass(frozen=True)
class Request:
    """The benchmarks to run, and their settings.

    Attributes:
        what: names of benchmarks.
        rounds: measured runs of each side.
        threads: of torch and ONNX Runtime.
        out: the file for the figures; None for the terminal only.
        options: the benchmarks' own keys, as typed.
    """

    what: tuple[str, ...]
    rounds: int
    threads: int
    out: Path | None
    options: Mapping[str, str]

    def whole(self, key: str, default: int, *, least: int = 0) -> int:
        """A whole number among `options`.

        Raises:
            ValueError: it is not a whole number, or less than `least`.
        """
        value = self.options.get(key, str(default))
        if not value.isdecimal() or int(value) < least:
            raise ValueError(f"{key} is {value!r}, but must be a whole number of at least {least}")
        return int(value)


def bench_module(name: str) -> Any:  # noqa: ANN401
    """The module of a benchmark."""
    return import_module(BENCHES[name])
