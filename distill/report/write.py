"""report.html: written when a run is evaluated or published, and by `distill report` for an earlier run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from distill.config.parse import read_recipe
from distill.report.inputs import Inputs
from distill.runs.fingerprint import digest_of
from distill.runs.open_run import open_run
from distill.runs.run import Run
from distill.runtime.io import SEAL, write_text

NAME = "report.html"
MARK = '<meta name="bandpass-content" content="{}">'  # a digest of the page's inputs, near its start
HEAD = 2000  # characters in which it stands

logger = logging.getLogger("bandpass")


def report(run: Run) -> Path:
    """Writes an evaluated run's report.html and returns its path.

    Raises:
        FileNotFoundError: the run has not been evaluated.
    """
    from distill.report.page import render

    path = run.folder / NAME
    mark = MARK.format(content_of(run))
    write_text(path, render(run).replace("</title>", f"</title>\n{mark}", 1))
    return path


def refresh(run: Run) -> None:
    """Writes report.html unless it is up to date; a failure is logged as a warning, and the run goes on."""
    try:
        path = run.folder / NAME
        if not (path.is_file() and MARK.format(content_of(run)) in path.read_text(encoding="utf-8")[:HEAD]):
            report(run)
    except Exception as error:  # no failure of a page is worth losing a run
        logger.warning("report.html was not written (%s: %s); try again: distill report run=%s (--debug shows where)",
                       type(error).__name__, error, run.folder)  # fmt: skip


def content_of(run: Run) -> str:
    """A digest of everything on a page: metrics, training, publishing and layout."""
    inputs = Inputs(run)
    figures = {name: value for name, value in inputs.metrics.items() if name not in ("seconds", SEAL)}
    folder = files("distill.report")
    layout = [folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html.jinja", "style.css")]
    return digest_of([figures, inputs.training, inputs.published, layout])[:16]


def run_of(folder: Path, words: Sequence[str]) -> Run:
    """The run in a folder, which may have been moved since it was made.

    If the folder lies in `home/runs`, its caches are taken from `home/features`; otherwise from where its recipe says.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"expected a run in {folder} (recipe.yaml, metrics.json), found none")
    home = folder.resolve().parent.parent
    beside = [f"home={home}"] if (home / "features").is_dir() and folder.resolve().parent.name == "runs" else []
    return replace(open_run(read_recipe([f"recipe={path}", *beside, *words])), folder=folder)
