"""`distill runs [home=DIR]`: the runs that there are."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from distill.cli.options import Command, Option
from distill.runs.latest import columns, runs_in


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Writes a line for each run, the latest first."""
    del dry  # it writes nothing but to the terminal
    found = runs_in(given.home)
    told = columns(found) if found else [f"no runs in {given.home}/runs; distill run recipe=sam_to_unet makes one"]
    sys.stdout.write("\n".join(told) + "\n")
    return 0


COMMAND = Command(
    "runs",
    run,
    does="Lists the runs with their date, steps of training, Dice on each test set and folder, the latest first. "
    "A name, as sam_to_unet-unet, stands for the latest run of that recipe and student, and so does the recipe's "
    "alone: predict student=NAME, demo student=NAME, report run=NAME.",
    options=(Option("home", "where runs are kept", "artifacts", "artifacts"),),
    examples=("distill runs", "distill runs home=DIR"),
)
