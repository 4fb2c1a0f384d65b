"""Mask teachers beside the student: scores of both on the same images, and their agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from distill.data.sample import Sample
from distill.evaluation.results import summarise
from distill.evaluation.scored import Scored, score_set
from distill.evaluation.scoring import Predictor
from distill.evaluation.soft_masks import SoftMasks, known, soft_masks_of
from distill.runs.run import Run

VALIDATION = "validation"


def score_teachers(
    run: Run, predictor: Predictor, scores: Mapping[str, Scored]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores of every mask teacher and the student on the validation and test images whose soft masks are known.

    Only the first process has figures.

    Training images are left out, because a teacher has learned from their masks.

    Args:
        run: for its images and caches.
        predictor: the student's.
        scores: the student's scores on the test images.

    Returns:
        teacher -> data set, or `validation` -> {"images", "of": all images of the part, "teacher" and "student": the
        entry of a data set over these images, "agreement": Dice and IoU of the student's mask with the teacher's}.
    """
    if run.recipe.reads_features or run.recipe.student.classes > 1:
        return {}
    validation = [replace(one, group=one.group and f"{one.dataset}/{one.group}") for one in run.splits.val]
    parts = {VALIDATION: validation, **run.splits.test}  # a group's name is unique within its data set
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, masks in soft_masks_of(run).items():
        for part, samples in parts.items():
            if chosen := known(masks, samples):
                entry = side_by_side(run, predictor, masks, chosen, scored=scores.get(part), what=f"{name} on {part}")
                found.setdefault(name, {})[part] = {"images": len(chosen), "of": len(samples), **entry}
    return found


def side_by_side(
    run: Run,
    predictor: Predictor,
    masks: SoftMasks,
    samples: Sequence[Sample],
    *,
    scored: Scored | None,
    what: str,
) -> dict[str, dict[str, Any]]:
    """The entries `teacher`, `student` and `agreement` over some samples.

    Args:
        run: for its processes and the resamples of its intervals.
        predictor: the student's.
        masks: the teacher's.
        samples: whose soft masks are known.
        scored: the student's scores, if it has been scored on these samples already.
        what: name shown with the progress.
    """
    score = partial(score_set, run)
    against_teacher = [masks.as_truth(sample) for sample in samples]
    entries = {
        "teacher": score(masks.probability, samples, what=what, reads_images=False),
        "student": scored.part({sample.key for sample in samples})
        if scored is not None
        else score(predictor, samples, what=f"beside {what}", reads_images=True),
        "agreement": score(predictor, against_teacher, what=f"agreement: {what}", whole=False, reads_images=True),
    }
    if not run.accelerator.is_main_process:
        return {}
    return {name: summarise(each, resamples=run.recipe.evaluate.bootstrap) for name, each in entries.items()}
