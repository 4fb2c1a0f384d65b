"""`evaluate`: scores the trained student on every test data set."""

from __future__ import annotations

from typing import Any

from distill.evaluation.mask_teachers import score_teachers
from distill.evaluation.results import scored_with, write_results
from distill.evaluation.scored import score_set
from distill.evaluation.scoring import predictor_of
from distill.runs.caches import open_caches
from distill.runs.run import Run
from distill.runs.weights import load_student


def evaluate(run: Run) -> dict[str, Any]:
    """Scores a run's student on each test data set and returns the run's metrics.

    Writes `datasets`, `student`, `teachers` and `convention` into metrics.json and one line per image into
    predictions.csv. The processes share the images; the result is the same for any number of them. Returns at once if
    both files exist for the same weights.

    Raises:
        FileNotFoundError: no student has been trained.
        ValueError: there are no test images.
    """
    if not all(run.splits.test.values()) or not run.splits.test:
        raise ValueError(
            "there are no test images to evaluate on; add a test.csv to the split, give the test part a share in "
            "data.fractions, or leave evaluate and publish out of do="
        )
    caches = run.once_listed(lambda: open_caches(run, learning=False)) if run.recipe.reads_features else {}
    student = run.once_listed(lambda: load_student(run, caches)).to(run.accelerator.device)
    if run.agree(lambda: run.read_metrics().get("evaluated") == scored_with(run) and run.has_scores()):
        return run.read_metrics()
    predictor = predictor_of(student, run, caches)
    reads_images = not run.recipe.reads_features
    scores = {
        name: score_set(run, predictor, samples, what=f"evaluate {name}", reads_images=reads_images)
        for name, samples in run.splits.test.items()
    }
    teachers = score_teachers(run, predictor, scores)
    if run.accelerator.is_main_process:
        write_results(run, student, scores, teachers=teachers)
    run.wait()
    return run.read_metrics()
