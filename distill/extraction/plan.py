"""What is to be extracted with one teacher: its cache, the records wanted and the images behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import cache
from distill.config.schema import TeacherRecipe
from distill.data.prompts import record_key
from distill.data.sample import Sample
from distill.data.sources.unlabelled import unlabel
from distill.runs.licences import terms_of_images
from distill.runs.run import Run, calibration_keys

GALLERY = 8  # validation images whose plain view is kept too: they are drawn, never learned from

Record = tuple[str, str]  # key of an image (and of its prompt), view


@dataclass(frozen=True)
class ExtractionPlan:
    """What one teacher's cache should hold, found out once from a run.

    Attributes:
        name: of the teacher.
        recipe: of the teacher.
        folder: of its cache.
        fidelity: the cosine asked of the codes.
        records: that are wanted, sorted.
        samples: the images by the keys of their records; those held out without their masks.
        training: key of each training image, labelled or not -> key of its record.
        calibration: keys of the training images that the codecs are fitted on.
        terms: of the images, by data set.
        unlabelled: how many training images have no mask.
        device: where the teacher runs.
        processes: that share the work.
    """

    name: str
    recipe: TeacherRecipe
    folder: Path
    fidelity: float
    records: tuple[Record, ...]
    samples: Mapping[str, Sample]
    training: Mapping[str, str]
    calibration: tuple[str, ...]
    terms: Mapping[str, str]
    unlabelled: int
    device: torch.device
    processes: int

    def plain_records(self, keys: Iterable[str]) -> list[Record]:
        """The records of training images in their plain view, sorted; other keys are passed over."""
        return sorted((self.training[key], "identity") for key in keys if key in self.training)


def plan_extraction(run: Run, name: str) -> ExtractionPlan:
    """The plan of one teacher of a run.

    Wanted are all training images in every view, and some held-out ones in their plain view (`shown_images`).
    """
    recipe, splits = run.recipe.teachers[name], run.splits
    images = (*splits.train, *splits.unlabelled)
    training = {sample.key: record_key(recipe, sample) for sample in images}
    held_out = map(unlabel, (*splits.val, *(sample for part in splits.test.values() for sample in part)))
    samples = {record_key(recipe, sample): sample for sample in (*held_out, *images)}
    shown = {(record_key(recipe, unlabel(sample)), "identity") for sample in shown_images(run, name)}
    views = run.recipe.views_of(name)
    return ExtractionPlan(
        name=name,
        recipe=recipe,
        folder=run.caches[name],
        fidelity=run.recipe.cache.fidelity,
        records=tuple(sorted(shown.union((key, view) for key in training.values() for view in views))),
        samples=samples,
        training=training,
        calibration=tuple(calibration_keys(splits, run.recipe.cache.calibration)),
        terms=terms_of_images(run),
        unlabelled=len(splits.unlabelled),
        device=run.accelerator.device,
        processes=run.accelerator.num_processes,
    )


def gallery(run: Run) -> tuple[Sample, ...]:
    """The validation images whose features are kept for pictures."""
    return tuple(sorted(run.splits.val, key=lambda sample: sample.key)[:GALLERY])


def shown_images(run: Run, name: str) -> tuple[Sample, ...]:
    """The held-out images whose records are wanted: the gallery, or all that a task decoder is scored on."""
    recipe, splits = run.recipe, run.splits
    if recipe.reads_features:
        return (*splits.val, *(sample for part in splits.test.values() for sample in part))
    read = recipe.teachers[name].of or ""
    if read not in run.caches or not recipe.teachers[read].cache:
        return gallery(run)
    given = cache.open(run.caches[read])  # made elsewhere, so that it need not hold the gallery
    return tuple(sample for sample in gallery(run) if (sample.key, "identity") in given)
