"""The verbs of the command line as functions of a recipe: `distill.extract`, `train`, `evaluate`, `publish`, `report`.

Each opens the run that the recipe asks for and does one step of it; `distill.run` does all of them in turn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.config.schema import Recipe
from distill.runs.open_run import open_run
from distill.runs.steps import do_step


def extract(recipe: Recipe) -> dict[str, int]:
    """Makes missing teachers and fills their caches; see `distill.extraction.extract.extract`.

    Returns:
        the number of images that passed each teacher, by name.
    """
    found: dict[str, int] = do_step("extract", open_run(recipe))
    return found


def train(recipe: Recipe) -> dict[str, Any]:
    """Trains the student; see `distill.training.train.train`. Returns the summary, `train.json`."""
    summary: dict[str, Any] = do_step("train", open_run(recipe))
    return summary


def evaluate(recipe: Recipe) -> dict[str, Any]:
    """Scores the student on the test sets; see `distill.evaluation.evaluate.evaluate`. Returns `metrics.json`."""
    metrics: dict[str, Any] = do_step("evaluate", open_run(recipe))
    return metrics


def publish(recipe: Recipe) -> Path:
    """Publishes the student; see `distill.publishing.publish.publish`. Returns its folder."""
    folder: Path = do_step("publish", open_run(recipe))
    return folder


def report(recipe: Recipe) -> Path:
    """Writes the run's report.html; see `distill.report.write.report`. Returns its path."""
    from distill.report.write import report as write

    return write(open_run(recipe))
