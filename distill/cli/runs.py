"""`distill runs [home=DIR]`: the runs in a home."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

from distill.cli.options import Command, Option
from distill.runs.latest import Listed, runs_in
from distill.runtime.issues import aligned
from distill.training.jsonl_log import last_step


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Prints a line for each run, the latest first."""
    del dry  # it writes to the terminal only
    found = runs_in(given.home)
    place = f"{given.home}/runs"
    lines = (
        [f"in {place}:", *columns(found)]
        if found
        else [f"no runs in {place}; distill run recipe=sam_to_unet makes one"]
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def columns(runs: Sequence[Listed]) -> list[str]:
    """Lines of a table: folder, date, steps, Dice on each test set."""
    cells = [("run", "date", "steps", "Dice")]
    for one in runs:
        dice = ", ".join(f"{name} {value:.3f}" for name, value in one.dice.items())
        cells.append((one.folder.name, f"{one.date:%Y-%m-%d %H:%M}", steps_of(one), dice or "not tested"))
    return aligned(cells)


def steps_of(one: Listed) -> str:
    """`600`; `at 450` if training is not complete; `none` if it has not begun or its log is damaged."""
    if one.steps is not None:
        return str(one.steps)
    try:
        reached = last_step(one.folder / "log.jsonl")
    except ValueError:
        return "none"
    return f"at {reached}" if reached else "none"


COMMAND = Command(
    "runs",
    run,
    does="Lists the runs with their date, training steps and Dice on each test set, the latest first. Other commands "
    "take the name of a run's folder: predict student=NAME, demo student=NAME, report run=NAME. Without the digest, as "
    "sam_to_unet-unet, it means the latest run of that recipe and student; a recipe's name alone, its latest run.",
    options=(Option("home", "folder of caches and runs", "artifacts", "artifacts"),),
    examples=("distill runs", "distill runs home=DIR"),
)
