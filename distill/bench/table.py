"""Figures as a Markdown table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from distill.bench.request import Request
from distill.runtime.hardware import machine
from distill.runtime.io import write_json, write_text
from distill.runtime.timing import Row


def save(measured: Mapping[str, list[Row]], request: Request, words: Sequence[str]) -> None:
    """Writes the figures as JSON, and as Markdown beside it."""
    assert request.out is not None
    figures = {name: [{**asdict(row), "met": row.met} for row in rows] for name, rows in measured.items()}
    shown = " ".join(word for word in words if not word.startswith("out="))
    where = machine(request.threads)
    write_json(request.out, {"command": f"distill bench {shown}", "machine": where, "figures": figures})
    told = ", ".join(f"{key} {value}" for key, value in where.items())
    tables = "\n".join(table(name, rows) for name, rows in measured.items())
    write_text(request.out.with_suffix(".md"), f"`distill bench {shown}`\n\n{told}\n\n{tables}")


def table(name: str, rows: Iterable[Row]) -> str:
    """Rows as a Markdown table that is also readable in a terminal."""
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
