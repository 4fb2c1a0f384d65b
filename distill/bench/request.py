"""The benchmarks there are, and a request for some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

BENCHES = {  # name -> module; its `measure` makes rows of a `Request`, its `KEYS` name and explain its own keys
    "cache": "distill.bench.sizes",
    "train": "distill.bench.training",
    "teachers": "distill.bench.teachers",
    "scale": "distill.bench.scale",
    "student": "distill.bench.students",
}


@dataclass(frozen=True)
class Request:
    """Benchmarks to run, and how.

    Attributes:
        what: names of benchmarks.
        rounds: measured runs of each side.
        threads: of torch and ONNX Runtime.
        out: where the figures go; None for the terminal alone.
        options: the keys of the benchmarks themselves, as typed.
    """

    what: tuple[str, ...]
    rounds: int
    threads: int
    out: Path | None
    options: Mapping[str, str]

    def whole(self, key: str, default: int, *, least: int = 0) -> int:
        """A whole number among `options`.

        Raises:
            ValueError: it is none, or less than `least`.
        """
        value = self.options.get(key, str(default))
        if not value.isdecimal() or int(value) < least:
            raise ValueError(f"{key} is {value!r}, but must be a whole number from {least} on")
        return int(value)


def bench_module(name: str) -> Any:  # noqa: ANN401
    """The module of a benchmark."""
    return import_module(BENCHES[name])
