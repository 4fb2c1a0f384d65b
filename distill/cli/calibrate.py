"""`distill calibrate student=... data.root=DIR out=DIR`: a student's thresholds and temperature for a new hospital."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from distill.cli.options import Command, Option, path
from distill.cli.predict import HOME, TORCH_STUDENT, TRUST
from distill.cli.score import share
from distill.config.layers import overlaid
from distill.config.parse import parse_overrides
from distill.config.schema import DataRecipe
from distill.config.values import build
from distill.runs.latest import student_of
from distill.runtime.issues import several

if TYPE_CHECKING:
    from distill.publishing.operating_point import Choice, Point

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Request:
    """The images to calibrate on, with the same keys as in a recipe."""

    data: DataRecipe = field(default_factory=DataRecipe)


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Calibrates the student and prints what every region threshold gives; dry: only says what would be done."""
    from distill.publishing.calibrate import calibrate, check_inputs

    request = build(Request, overlaid({"data": {"name": "folder"}}, parse_overrides(given.rest, Request)))
    if request.data.root is None:
        raise ValueError(f"distill calibrate needs data.root=DIR, as in {COMMAND.usage}")
    student = student_of(given.student, home=given.home)
    if dry:
        samples = check_inputs(student, request.data, out=given.out, home=given.home).samples
        logger.info("would calibrate %s on %s and write %s", student, several(len(samples), "image"), given.out)
        return 0
    settings = {"sensitivity": given.sensitivity, "home": given.home, "trust": given.trust}
    choice = calibrate(student, request.data, out=given.out, **settings)
    sys.stdout.write(
        f"{table(choice)}\nthe calibrated student is in {given.out}\n"
        "these figures are of the images that the thresholds were chosen on, and so too high: test on others\n"
    )
    return 0


def table(choice: Choice) -> str:
    """The usual thresholds, the chosen ones and those beside them, with what they give, as aligned lines."""
    empty = choice.images - choice.shown
    rows: list[Sequence[str]] = [("threshold", "region", "object found in", "false alarms in", "Dice", "")]

    def row(point: Point, name: str = "") -> Sequence[str]:
        regions = f"{point.region_threshold:g}" if point.region_threshold else "every"
        alarms = f"{point.false_alarms} of {empty}" if empty else "no such image"
        found = f"{point.found} of {choice.shown}"
        return (f"{point.threshold:g}", regions, found, alarms, f"{point.dice:.4f}", name)

    rows.append(row(choice.usual, "0.5 and every region" if choice.chosen != choice.usual else "chosen"))
    rows += [row(point, "chosen" if point == choice.chosen else "") for point in choice.points if point != choice.usual]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)) + f"  {row[-1]}".rstrip()
        for row in rows
    )


COMMAND = Command(
    "calibrate",
    run,
    does="Fits thresholds and temperature of a published student on images with masks of your own hospital or camera, "
    "and writes the result as a new student; no weight changes. Of all pairs of thresholds that find something of the "
    "object in enough images, the one with the best mean Dice is taken. Give images as the student will meet them, "
    "with and without an object (their masks are empty), and none that you test on. If each shows an object, frames "
    "made of them by covering it tell false alarms. Images that the student was trained on are refused.",
    writes=("out/  model.safetensors; config.json and card, which say what was done; no ONNX file",),
    options=(
        TORCH_STUDENT,
        Option("out", "a new or empty folder for the calibrated student", shown="DIR", read=path, required=True),
        Option(
            "sensitivity",
            "the least share of images with an object in which something of it must be found; empty: as many as at "
            "threshold 0.5",
            read=share,
        ),
        TRUST,
        replace(HOME, meaning=f"{HOME.meaning}, and that keeps the file index"),
    ),
    keys=("data.root=DIR", "data.name=folder", "data.colours", "data.skip_bad"),
    schema=Request,
    needs=("data.root=DIR",),
    examples=(
        "distill calibrate student=zoo:NAME data.root=DIR out=calibrated",
        "distill calibrate student=zoo:NAME data.root=DIR out=calibrated sensitivity=0.95",
        "distill predict student=calibrated images=DIR out=masks",
    ),
)
