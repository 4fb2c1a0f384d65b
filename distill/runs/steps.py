"""One step of a run: its verb, found in the registry of steps, what must be there before it, and what it took."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from importlib import import_module
from typing import Any

from distill.config.registry import STEPS
from distill.runs.accelerator import one_precision, start_accelerator
from distill.runs.run import BEGUN, Run
from distill.runs.teacher_runs import missing_teachers

logger = logging.getLogger("bandpass")


def do_step(name: str, run: Run) -> Any:  # noqa: ANN401
    """Does a step, adds what it took to metrics.json, and returns what its verb returns.

    Before extraction, what makes the teachers that are missing is trained, tested and published; their runs keep what
    that took.
    """
    module, _, verb = STEPS[name].partition(":")
    if name == "extract":
        make_teachers(run)
    began = time.monotonic()
    result = getattr(import_module(module), verb)(replace(run, step=name))
    run.agree(lambda: add_cost(run, name, seconds=time.monotonic() - began, result=result))
    return result


def make_teachers(run: Run) -> None:
    """Trains, tests and publishes the teachers that are missing; a killed training continues by the same command."""
    missing = run.agree(lambda: [one.folder for _, one in missing_teachers(run)])
    for name, one in ((name, one) for name, runs in run.made.items() for one in runs):
        if one.folder not in missing:
            continue
        logger.info("%s: recipe=%s makes it first, in %s", name, run.recipe.teachers[name].recipe, one.folder)
        with one_precision():
            do_all(replace(one, accelerator=start_accelerator(one.recipe)))
        logger.info("%s: made; %s goes on", name, run.folder.name)


def do_all(run: Run) -> None:
    """All steps; of a run that is trained those alone that need no features."""
    trained = run.agree(run.trained.is_file) and not run.recipe.reads_features
    for step in STEPS:
        if not (trained and step in ("extract", "train")):
            do_step(step, run)


def add_cost(run: Run, step: str, *, seconds: float, result: Any) -> None:  # noqa: ANN401
    """Adds what a step took to metrics.json: a run that was killed, or is run again, keeps what it has cost."""
    metrics = run.read_metrics()
    spent = metrics.setdefault("seconds", {})
    spent[step] = round(spent.get(step, 0.0) + seconds, 1)
    if step == "extract":
        metrics["teacher_forwards"] = metrics.get("teacher_forwards", 0) + sum(result.values())
        metrics.pop(BEGUN, None)
    run.write_metrics(metrics)
