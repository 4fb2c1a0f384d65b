"""The benchmarks there are, and a request for some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from distill.runtime.timing import Row

BENCHES: dict[str, str] = {  # name -> "module:function", called with a Request and returning rows
    "cache": "distill.bench.sizes:measure",
    "train": "distill.bench.training:measure",
    "teachers": "distill.bench.teachers:measure",
    "scale": "distill.bench.scale:measure",
    "student": "distill.bench.students:measure_students",
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


def bench_module(name: str) -> Any:  # noqa: ANN401
    """The module of a benchmark; its `KEYS` name and explain its own keys."""
    return import_module(BENCHES[name].partition(":")[0])


def bench_of(name: str) -> Callable[[Request], list[Row]]:
    """The function of a benchmark."""
    return getattr(bench_module(name), BENCHES[name].partition(":")[2])


def whole(key: str, given: Mapping[str, str], default: int) -> int:
    """A whole number from 1 on.

    Raises:
        ValueError: it is none.
    """
    value = given.get(key, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{key} is {value!r}, but must be a whole number from 1 on")
    return int(value)
