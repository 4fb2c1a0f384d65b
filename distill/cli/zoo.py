"""`distill zoo`: the published students that come with Bandpass."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from distill.cli.options import Command
from distill.runtime.io import read_json_if_sound
from distill.runtime.issues import aligned

TITLES = ("name", "parameters", "trained on", "Dice at 0.5")


def run(_: SimpleNamespace, *, dry: bool) -> int:
    """Prints a line for each student, read from its files."""
    from students.catalogue import FOLDER, PREFIX, names  # which imports torch

    del dry  # it writes to the terminal only
    rows = [row(f"{PREFIX}{name}", read_json_if_sound(FOLDER / name / "results.json")) for name in names()]
    if not rows:
        sys.stdout.write("no published student comes with this copy of Bandpass\n")
        return 0
    sys.stdout.write("\n".join(aligned([TITLES, *rows])) + "\n")
    return 0


def row(name: str, results: dict[str, Any]) -> tuple[str, str, str, str]:
    """A student's line: its name, parameters, training images of each data set, mean Dice on each test set."""
    parameters = results.get("student", {}).get("parameters")
    trained = ", ".join(f"{count} of {data}" for data, count in results.get("training", {}).items())
    means = {data: one.get("dice", {}).get("mean") for data, one in results.get("datasets", {}).items()}
    dice = ", ".join(f"{data} {mean:.3f}" for data, mean in means.items() if mean is not None)
    return name, f"{parameters:,}" if parameters else "", trained, dice


COMMAND = Command(
    "zoo",
    run,
    does="Lists the published students that come with Bandpass, with their parameters, the images that they were "
    "trained on, and their mean Dice at threshold 0.5 on each test set. Use their names wherever a published student "
    "is taken: predict, demo, student.init=, teachers.NAME.weights= with adapter=student, students.load(). The card of "
    "each, README.md in students/zoo/NAME, gives the terms of its training data.",
    examples=("distill zoo", "distill predict student=zoo:NAME images=DIR out=masks"),
)
