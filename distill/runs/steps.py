"""One step of a run: its verb from the registry of steps, the teachers that it needs, and its cost."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any

from distill.config.registry import STEPS
from distill.runs.accelerator import one_precision, start_accelerator
from distill.runs.run import BEGUN, Run
from distill.runs.teacher_runs import missing_teachers

logger = logging.getLogger("bandpass")


def do_step(name: str, run: Run) -> Any:  # noqa: ANN401
    """Does a step, adds its cost to metrics.json, and returns what its verb returns.

    Before extraction, missing teachers are trained, tested and published; their runs record that cost.
    """
    if name == "extract":
        make_teachers(run)
    began = time.monotonic()
    result = resolve_name(STEPS[name])(replace(run, step=name))
    run.agree(lambda: add_cost(run, name, seconds=time.monotonic() - began, result=result))
    return result


def make_teachers(run: Run) -> None:
    """Trains, tests and publishes missing teachers; the same command resumes a killed training."""
    missing = run.agree(lambda: [one.folder for _, one in missing_teachers(run)])
    for name, one in ((name, one) for name, runs in run.made.items() for one in runs):
        if one.folder not in missing:
            continue
        logger.info("making teacher %s first, by recipe=%s, in %s", name, run.recipe.teachers[name].recipe, one.folder)
        with one_precision():
            do_all(replace(one, accelerator=start_accelerator(one.recipe)))
        logger.info("teacher %s is made; %s continues", name, run.folder.name)


def do_all(run: Run) -> None:
    """Does all steps; if the run is trained, only those that need no features."""
    trained = run.agree(run.trained.is_file) and not run.recipe.reads_features
    for step in STEPS:
        if not (trained and step in ("extract", "train")):
            do_step(step, run)


def add_cost(run: Run, step: str, *, seconds: float, result: Any) -> None:  # noqa: ANN401
    """Adds the cost of a step to metrics.json; it accumulates over kills and repeated calls."""
    metrics = run.read_metrics()
    spent = metrics.setdefault("seconds", {})
    spent[step] = round(spent.get(step, 0.0) + seconds, 1)
    if step == "extract":
        metrics["teacher_forwards"] = metrics.get("teacher_forwards", 0) + sum(result.values())
        metrics.pop(BEGUN, None)
    run.write_metrics(metrics)
