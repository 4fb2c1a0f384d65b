"""The plan of an extraction: one teacher's cache, the wanted records and the images behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import cache
from cache.shard import Record
from cache.spec import flip
from distill.config.schema import TeacherRecipe
from distill.data.prompts import prompt_of, record_key, record_keys
from distill.data.sample import Sample, Splits, key_pairs_of
from distill.data.sources.unlabelled import unlabel
from distill.runs.licences import licences_of_images
from distill.runs.run import Run
from distill.runs.teacher_runs import origin_of

GALLERY = 8  # validation images whose plain view is cached too: for pictures, never for training


class Input(NamedTuple):
    """The input of a teacher for one record."""

    image: np.ndarray  # uint8 (H, W, 3), in the record's view
    prompt: np.ndarray | None  # see `distill.data.prompts.prompt_of`; None for a teacher without prompts


@dataclass(frozen=True)
class ExtractionPlan:
    """The intended content of one teacher's cache, derived once from a run.

    Attributes:
        name: of the teacher.
        recipe: of the teacher.
        folder: of its cache.
        source: folder of the cache that a task teacher reads; None for other teachers.
        origin: recipe and runs that made the teacher; empty if weights are given.
        fidelity: the cosine that the codes must reach.
        shells: whether ranges of frequencies have their own axes in the codes.
        records: the wanted records, sorted.
        read: returns the image and the prompt of a record.
        training: key of each training image, labelled or not -> key of its record.
        calibration: keys of the training images on which the codecs are fitted.
        terms: of the images, by data set.
        unlabelled: the number of training images without a mask.
        device: where the teacher runs.
        rank: of this process.
        processes: the number of processes that share the work.
    """

    name: str
    recipe: TeacherRecipe
    folder: Path
    source: Path | None
    origin: Mapping[str, Any]
    fidelity: float
    shells: bool
    records: tuple[Record, ...]
    read: Callable[[Record], Input]
    training: Mapping[str, str]
    calibration: tuple[str, ...]
    terms: Mapping[str, str]
    unlabelled: int
    device: torch.device
    rank: int
    processes: int

    def plain_records(self, keys: Iterable[str]) -> list[Record]:
        """The records of training images in their plain view, sorted; other keys are ignored."""
        return sorted((self.training[key], "identity") for key in keys if key in self.training)


def plan_extraction(run: Run, name: str, *, folder: Path | None = None) -> ExtractionPlan:
    """The plan of one teacher of a run.

    It wants all training images in every view, and some held-out images in their plain view (`shown_images`).

    Args:
        run: for its images, recipe and processes.
        name: of the teacher.
        folder: of its cache; by default the run's own.
    """
    shown, terms = shown_images(run, name), licences_of_images(run.splits, generated=run.recipe.data.name == "builtin")
    recipe, splits = run.recipe.teachers[name], run.splits
    origin = origin_of(recipe)
    images = RecordedImages(recipe, splits)
    training = dict(zip((key for key, _ in key_pairs_of(splits.training)), images.learned, strict=True))
    plain = {(record_key(recipe, unlabel(sample)), "identity") for sample in shown}
    views = sorted(run.recipe.views_of(name))
    ordered = ((key, view) for key in sorted(training.values()) for view in views)  # so that sorting them is quick
    return ExtractionPlan(
        name=name,
        recipe=recipe,
        folder=folder or run.caches[name],
        source=run.caches.get(recipe.of or ""),
        origin=origin,
        fidelity=run.recipe.cache.fidelity,
        shells=run.recipe.cache.shells,
        records=tuple(sorted(dict.fromkeys((*ordered, *plain)))),
        read=partial(read_record, recipe, images),
        training=training,
        calibration=tuple(sample.key for sample in splits.calibration(run.recipe.cache.calibration)),
        terms=terms,
        unlabelled=len(splits.unlabelled),
        device=run.accelerator.device,
        rank=run.accelerator.process_index,
        processes=run.accelerator.num_processes,
    )


class RecordedImages:
    """The images by the keys of their records; held-out images come without their masks.

    Attributes:
        learned: the key of the record of each training image.
    """

    def __init__(self, recipe: TeacherRecipe, splits: Splits) -> None:
        self.training, self.held_out = splits.training, splits.held_out
        self.learned = record_keys(recipe, self.training)
        shown = record_keys(recipe, map(unlabel, self.held_out))
        self.places = {key: -1 - place for place, key in enumerate(shown)}  # negative for held-out images
        self.places.update((key, place) for place, key in enumerate(self.learned))

    def __getitem__(self, key: str) -> Sample:
        place = self.places[key]
        return self.training[place] if place >= 0 else unlabel(self.held_out[-1 - place])


def read_record(recipe: TeacherRecipe, images: RecordedImages | Mapping[str, Sample], record: Record) -> Input:
    """The input of a teacher for a record.

    Args:
        recipe: of the teacher.
        images: by the keys of their records.
        record: the record whose image is read.
    """
    key, view = record
    sample = images[key]
    prompt = None if recipe.prompts is None else prompt_of(recipe, sample, view)
    return Input(np.ascontiguousarray(flip(sample.read_image(), view, axes=(0, 1))), prompt)


def gallery(run: Run) -> tuple[Sample, ...]:
    """The validation images whose features are kept for pictures."""
    return tuple(sorted(run.splits.val, key=lambda sample: sample.key)[:GALLERY])


def shown_images(run: Run, name: str) -> Sequence[Sample]:
    """The held-out images whose records are wanted: the gallery, or all on which a task decoder is scored."""
    recipe = run.recipe
    if recipe.reads_features:
        return run.splits.held_out
    read = recipe.teachers[name].of or ""
    if read not in run.caches or not recipe.teachers[read].cache:
        return gallery(run)
    given = cache.open(run.caches[read])  # made elsewhere, so it need not hold the gallery
    return tuple(sample for sample in gallery(run) if (sample.key, "identity") in given)
