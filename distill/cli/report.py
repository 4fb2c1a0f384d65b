"""`distill report run=RUN`, or with a recipe: writes the page of an evaluated run anew."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

from distill.cli.options import Command, Option
from distill.config.command import remember_words
from distill.config.parse import read_recipe
from distill.config.schema import Recipe
from distill.runs.latest import find_run

logger = logging.getLogger("bandpass")


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Writes report.html; further words say where the data is on this machine.

    Raises:
        ValueError: neither a run nor a recipe is given.
        FileNotFoundError: there is no such run, or it has not been evaluated.
    """
    from distill.report.write import NAME, report, run_of
    from distill.runs.open_run import open_run

    if given.run:
        home = next((word.partition("=")[2] for word in given.rest if word.startswith("home=")), "artifacts")
        folder = find_run(given.run, home=home) or Path(given.run).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no run {given.run!r}: looked for a folder of that path, and for a run of that name in {home}/runs; "
                "distill runs home=DIR lists the runs of a home, which home=DIR sets here too"
            )
        remember_words([f"recipe={folder / 'recipe.yaml'}", *given.rest])
        opened = run_of(folder, given.rest)
    elif any(word.startswith("recipe=") for word in given.rest):
        remember_words(given.rest)
        opened = open_run(read_recipe(given.rest))
    else:
        raise ValueError(f"distill report needs run=DIR or recipe=NAME, as in {COMMAND.examples[0]}")
    if dry:
        logger.info("would write %s", opened.folder / NAME)
        return 0
    logger.info("written to %s", report(opened))
    return 0


COMMAND = Command(
    "report",
    run,
    does="Writes the page of an evaluated run anew, for example after an update of Bandpass; every run writes its own.",
    writes=("report.html in the run's folder: one file that needs no scripts and no network",),
    options=(
        Option(
            "run",
            "the run's folder, or its name in HOME/runs (RECIPE-STUDENT or RECIPE: the latest such run)",
            "DIR|RUN",
        ),
    ),
    keys=("home", "data.root=DIR"),
    schema=Recipe,
    needs=("run=RUN|recipe=NAME",),
    examples=("distill report run=artifacts/runs/RUN", "distill report run=sam_to_unet"),
)
