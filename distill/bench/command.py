"""Figures measured side by side in one run, as a table and as JSON: what `distill bench` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from distill.runtime.hardware import machine
from distill.runtime.io import write_json, write_text
from distill.runtime.timing import Row

BENCHES: dict[str, str] = {  # name -> "module:function", called with a Request and returning rows
    "cache": "distill.bench.caching:measure",
    "train": "distill.bench.training:measure",
    "teachers": "distill.bench.teachers:measure",
    "student": "distill.bench.students:measure_students",
}


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
