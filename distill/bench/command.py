"""`distill bench what=cache,train,...`: figures measured side by side in one run, as a table and as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from distill.config.parse import split_words
from distill.runtime.hardware import machine
from distill.runtime.io import write_json, write_text
from distill.runtime.issues import nearest
from distill.runtime.timing import Row

BENCHES: dict[str, str] = {  # name -> "module:function", called with a Request and returning rows
    "cache": "distill.bench.caching:measure",
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

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Request:
    """What is to be measured.

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


def bench_command(words: Sequence[str], *, dry: bool) -> int:
    """Runs `distill bench ...`; see `USAGE`.

    Returns:
        the exit status: 1 if a figure is not what was wanted.
    """
    import torch

    request = read_request(words)
    if dry:
        logger.info("would measure %s in %d rounds", ", ".join(request.what), request.rounds)
        return 0
    torch.set_num_threads(request.threads)
    measured: dict[str, list[Row]] = {}
    for name in request.what:
        measured[name] = bench_of(name)(request)
        sys.stdout.write(table(name, measured[name]) + "\n")
        if request.out is not None:  # after each: what was measured is kept if a later one fails
            save(measured, request, words)
    missed = [row.figure for rows in measured.values() for row in rows if row.met is False]
    if missed:
        logger.error("%d of the figures %s not what was wanted: %s", len(missed),
                     "is" if len(missed) == 1 else "are", "; ".join(missed))  # fmt: skip
    return 1 if missed else 0


def save(measured: Mapping[str, list[Row]], request: Request, words: Sequence[str]) -> None:
    """Writes the figures as JSON and, beside it, as Markdown."""
    assert request.out is not None
    figures = {name: [{**asdict(row), "met": row.met} for row in rows] for name, rows in measured.items()}
    shown = " ".join(word for word in words if not word.startswith("out="))
    where = machine(request.threads)
    write_json(request.out, {"command": f"distill bench {shown}", "machine": where, "figures": figures})
    told = ", ".join(f"{key} {value}" for key, value in where.items())
    tables = "\n".join(table(name, rows) for name, rows in measured.items())
    write_text(request.out.with_suffix(".md"), f"`distill bench {shown}`\n\n{told}\n\n{tables}")


def table(name: str, rows: Iterable[Row]) -> str:
    """Rows as Markdown that also reads well on a terminal."""
    cells = [("figure", "measured", "wanted", "conditions")]
    cells += [  # a bar would end a cell
        (row.figure, f"{row.value:,.4g} {row.unit}".strip(), row.wanted + (" (missed)" if row.met is False else ""),
         row.note.replace("|", "/"))
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
             for line in cells]  # fmt: skip
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([f"### {name}", "", lines[0], rule, *lines[1:], ""])
