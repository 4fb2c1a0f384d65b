"""`evaluate`: scores the trained student on every test data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cache
from distill.evaluation.mask_teachers import score_teachers
from distill.evaluation.results import scored_with, write_results
from distill.evaluation.scored import score_set
from distill.evaluation.scoring import predictor_of
from distill.runs.caches import open_caches
from distill.runs.run import Run
from distill.runs.weights import load_student


@dataclass(frozen=True)
class EvaluationPlan:
    """The inputs of an evaluation, found out once from a run.

    Attributes:
        student: the network in eval mode, on its device.
        caches: those that a task decoder reads, by teacher.
        finished: whether these weights have been scored, and nothing is left to do.
    """

    student: Any
    caches: Mapping[str, cache.Cache]
    finished: bool


def plan_evaluation(run: Run) -> EvaluationPlan:
    """The plan of a run's evaluation.

    Raises:
        FileNotFoundError: no student has been trained.
        ValueError: there are no test images.
    """
    if not all(run.splits.test.values()) or not run.splits.test:
        raise ValueError(
            "there are no test images to evaluate on; give the split a test.csv or data.fractions a test share, "
            "or leave evaluate and publish out of do="
        )
    caches = run.once_listed(lambda: open_caches(run, learning=False)) if run.recipe.reads_features else {}
    student = run.once_listed(lambda: load_student(run, caches)).to(run.accelerator.device)
    scored = run.read_metrics().get("evaluated") == scored_with(run) and run.has_scores()
    return EvaluationPlan(student, caches, finished=run.agree(lambda: scored))


def evaluate(run: Run) -> dict[str, Any]:
    """Scores a run's student on each test data set and returns the run's metrics.

    Writes `datasets`, `student`, `teachers` and `convention` into metrics.json and one line an image into
    predictions.csv. The images are shared by the processes, and the result is the same for any number of them. Returns
    at once where both files are there for the same weights.

    Raises:
        FileNotFoundError: no student has been trained.
        ValueError: there are no test images.
    """
    plan = plan_evaluation(run)
    if plan.finished:
        return run.read_metrics()
    predictor = predictor_of(plan.student, run, plan.caches)
    reads_images = not run.recipe.reads_features
    scores = {
        name: score_set(run, predictor, samples, what=f"evaluate {name}", reads_images=reads_images)
        for name, samples in run.splits.test.items()
    }
    teachers = score_teachers(run, predictor, scores)
    if run.accelerator.is_main_process:
        write_results(run, plan.student, scores, teachers=teachers)
    run.wait()
    return run.read_metrics()
