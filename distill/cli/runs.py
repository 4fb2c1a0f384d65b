"""`distill runs [home=DIR]`: the runs that there are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

from distill.cli.options import Command, Option
from distill.runs.latest import Listed, runs_in
from distill.runtime.issues import aligned
from distill.training.jsonl_log import last_step


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Writes a line for each run, the latest first."""
    del dry  # it writes nothing but to the terminal
    found = runs_in(given.home)
    told = columns(found) if found else [f"no runs in {given.home}/runs; distill run recipe=sam_to_unet makes one"]
    sys.stdout.write("\n".join(told) + "\n")
    return 0


def columns(runs: Sequence[Listed]) -> list[str]:
    """Lines of a table: name, date, steps, Dice on each test set, folder."""
    cells = [("name", "date", "steps", "Dice", "folder")]
    for one in runs:
        dice = ", ".join(f"{name} {value:.3f}" for name, value in one.dice.items())
        cells.append((one.name, f"{one.date:%Y-%m-%d %H:%M}", steps_of(one), dice, str(one.folder)))
    return aligned(cells)


def steps_of(one: Listed) -> str:
    """`600`; `at 450` of a training that is not complete; nothing where none has begun, or its log is damaged."""
    if one.steps is not None:
        return str(one.steps)
    try:
        reached = last_step(one.folder / "log.jsonl")
    except ValueError:
        return ""
    return f"at {reached}" if reached else ""


COMMAND = Command(
    "runs",
    run,
    does="Lists the runs with their date, steps of training, Dice on each test set and folder, the latest first. "
    "A name, as sam_to_unet-unet, stands for the latest run of that recipe and student, and so does the recipe's "
    "alone: predict student=NAME, demo student=NAME, report run=NAME.",
    options=(Option("home", "where runs are kept", "artifacts", "artifacts"),),
    examples=("distill runs", "distill runs home=DIR"),
)
