"""One step of a run: its verb, found in the registry of steps, and what it took."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from distill.config.registry import STEPS
from distill.runs.run import BEGUN, Run


def do_step(name: str, run: Run) -> Any:  # noqa: ANN401
    """Does a step, adds what it took to metrics.json, and returns what its verb returns."""
    module, _, verb = STEPS[name].partition(":")
    if name == "extract" and run.accelerator.is_main_process:
        run.update_metrics(**{BEGUN: {}})
    began = time.monotonic()
    result = getattr(import_module(module), verb)(run)
    if run.accelerator.is_main_process:
        add_cost(run, name, seconds=time.monotonic() - began, result=result)
    run.wait()
    return result


def add_cost(run: Run, step: str, *, seconds: float, result: Any) -> None:  # noqa: ANN401
    """Adds what a step took to metrics.json: a run that was killed, or is run again, keeps what it has cost."""
    metrics = run.read_metrics()
    spent = metrics.setdefault("seconds", {})
    spent[step] = round(spent.get(step, 0.0) + seconds, 1)
    if step == "extract":
        metrics["teacher_forwards"] = metrics.get("teacher_forwards", 0) + sum(result.values())
        metrics.pop(BEGUN, None)
    run.write_metrics(metrics)
