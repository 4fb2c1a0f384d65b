"""`distill doctor data.root=DIR`: examines a data set before anyone trains on it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distill.cli.options import Command
from distill.config.field import setting
from distill.config.layers import overlaid
from distill.config.parse import parse_overrides
from distill.config.registry import DATASETS
from distill.config.schema import DataRecipe
from distill.config.values import build
from distill.data.sources.folder import find_data
from distill.doctor.examine import examine_data
from distill.doctor.page import render_page
from distill.doctor.table import table, to_json
from distill.runtime.io import write_json, write_text
from distill.runtime.issues import several

FOLDERS = tuple(name for name in DATASETS if name not in ("builtin", "datasets"))

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Labels:
    """The classes of the masks."""

    classes: int = setting(1, "as in the recipe; 2 or more: masks hold class numbers")


@dataclass(frozen=True)
class Request:
    """The data to examine, with the same keys as in a recipe."""

    data: DataRecipe = field(default_factory=DataRecipe)
    student: Labels = field(default_factory=Labels)
    home: str = setting("artifacts", "folder that keeps the file index")
    out: str | None = setting(None, "folder for the page and the JSON file; empty: HOME/doctor")


def read_request(words: Sequence[str]) -> Request:
    """The request of a command line's `key=value` words; `data.name` is folder if not given.

    Raises:
        ValueError: an unknown key, a value of the wrong kind, or data that is not in a folder.
    """
    asked = overlaid({"data": {"name": "folder"}}, parse_overrides(words, Request))
    request: Request = build(Request, asked)
    if request.data.root is None:
        raise ValueError(f"the doctor needs data.root=DIR, as in {COMMAND.usage}")
    if request.data.name not in FOLDERS:
        raise ValueError(
            f"the doctor examines folders, but data.name is {request.data.name}; choose from {', '.join(FOLDERS)}"
        )
    return request


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Prints a table, and writes a page and a JSON file into `out`; returns 1 if any issue is an error.

    Args:
        given: `rest` holds the words.
        dry: only says which data sets would be examined.
    """
    request = read_request(given.rest)
    if dry:
        names = ", ".join(find_data(request.data).places)
        logger.info("would examine %s in %s", names, request.data.root)
        return 0
    home = Path(request.home).expanduser()
    diagnosis = examine_data(request.data, classes=request.student.classes, home=home)
    out = Path(request.out).expanduser() if request.out else home / "doctor"
    result: dict[str, Any] = to_json(diagnosis.root, diagnosis.cases, diagnosis.issues)
    write_json(out / "doctor.json", result)
    write_text(out / "doctor.html", render_page(result, diagnosis.issues))
    sys.stdout.write(table(result))
    logger.info("pictures of these issues are in %s", out / "doctor.html")
    if result["errors"]:
        logger.info("%s: exit status 1", several(result["errors"], "error"))
    return 1 if result["errors"] else 0


COMMAND = Command(
    "doctor",
    run,
    does="Examines a data set before training: files that would stop a run, odd masks, near copies, and leaks between "
    "the parts of a split. The exit status is 1 if there is an error: a file that would stop a run, or an image, near "
    "copy or sequence on both sides of a split. Everything else is a note.",
    writes=("a table on standard output; OUT/doctor.html, with pictures, and OUT/doctor.json",),
    keys=(
        "data.root=DIR",
        "data.name=folder",
        "data.split=DIR",
        "data.groups",
        "data.train",
        "data.test",
        "data.test_only",
        "data.colours",
        "student.classes",
        "home",
        "out=HOME/doctor",
    ),
    schema=Request,
    needs=("data.root=DIR",),
    examples=(
        "distill doctor data.root=DIR data.split=DIR              # table, page, JSON; exit status 1 on an error",
        "distill doctor data.name=pranet data.root=DIR            # public data sets, wherever they were unpacked",
    ),
)
