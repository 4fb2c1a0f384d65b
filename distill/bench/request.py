"""The benchmarks there are, and the request that a command line makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from distill.config.parse import split_words
from distill.runtime.issues import nearest
from distill.runtime.timing import Row

BENCHES: dict[str, str] = {  # name -> "module:function", called with a Request and returning rows
    "cache": "distill.bench.sizes:measure",
    "train": "distill.bench.training:measure",
    "teachers": "distill.bench.teachers:measure",
    "student": "distill.bench.students:measure_students",
}
USAGE = "distill bench what=NAME,... [rounds=20] [threads=1] [out=FILE.json] [key=value ...]"
OWN = {
    "what": "which benchmarks",
    "rounds": "measured runs of each side",
    "threads": "of torch and ONNX Runtime",
    "out": "JSON of the figures; a table in Markdown is written beside it",
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


def key_lines() -> list[str]:
    """Every key with its meaning, as `--help` prints them: those of all benchmarks, then those of each."""
    lines = ["", *(f"  {key + '=':<12}{meaning}" for key, meaning in OWN.items())]
    for name in BENCHES:
        lines += ["", f"  what={name}", *(f"    {k + '=':<10}{said}" for k, said in bench_module(name).KEYS.items())]
    return lines


def bench_of(name: str) -> Callable[[Request], list[Row]]:
    """The function of a benchmark."""
    return getattr(bench_module(name), BENCHES[name].partition(":")[2])


def read_request(words: Sequence[str]) -> Request:
    """The request of a command line's `key=value` words.

    Raises:
        ValueError: wrong words (`split_words`), an unknown benchmark or key, or a number that is none.
    """
    given = split_words(words)
    names = tuple(name for name in given.get("what", "").strip("[]").replace(" ", "").split(",") if name)
    if not names:
        raise ValueError(f"distill bench needs what=NAME, of {', '.join(BENCHES)}, as in {USAGE}")
    for name in names:
        if name not in BENCHES:
            raise ValueError(f"no benchmark {name!r}; choose from {', '.join(BENCHES)}{nearest(name, BENCHES)}")
    known = {*OWN, *(key for name in names for key in bench_module(name).KEYS)}
    for key in given:
        if key not in known:
            raise ValueError(
                f"bench what={','.join(names)} has no key {key!r}; choose from "
                f"{', '.join(sorted(known))}{nearest(key, known)}"
            )
    out = Path(given["out"]).expanduser() if given.get("out") else None
    options = {key: value for key, value in given.items() if key not in OWN}
    return Request(names, whole("rounds", given, 20), whole("threads", given, 1), out, options)


def whole(key: str, given: Mapping[str, str], default: int) -> int:
    """A whole number from 1 on.

    Raises:
        ValueError: it is none.
    """
    value = given.get(key, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{key} is {value!r}, but must be a whole number from 1 on")
    return int(value)
