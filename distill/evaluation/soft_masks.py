"""The soft masks of a mask teacher at an image's own size, from its cache or from its decoder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

import cache
from cache.series import dct, series
from cache.spec import MASK
from distill.config.registry import MASK_TEACHERS
from distill.data.sample import Sample
from distill.extraction.task_teacher import TaskTeacher
from distill.metrics.overlap import THRESHOLD
from distill.runs.run import Run

VIEW = "identity"

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class SoftMasks:
    """The soft masks of one teacher: those in its cache, and those that its decoder can still compute.

    A task teacher's decoder reads another teacher's cache, so it can predict every image whose features are cached
    without passing an image through a teacher again.
    """

    store: cache.Cache
    teacher: TaskTeacher | None = None

    def has(self, sample: Sample) -> bool:
        """Whether the soft mask of a sample's plain view is cached or can be computed."""
        record = (sample.key, VIEW)
        return record in self.store or (self.teacher is not None and record in self.teacher.source)

    def probability(self, sample: Sample) -> np.ndarray:
        """The teacher's probability for a sample, float32 (K, H, W) at the image's own size, by its cosine series.

        Raises:
            KeyError: neither the cache nor the decoder has the image.
        """
        if self.teacher is None or (sample.key, VIEW) in self.store:
            coded = self.store.decode(sample.key, VIEW, map=MASK, grid=sample.size)
            logits = self.store.codecs[MASK].inverse(coded)
        else:
            coarse = self.teacher.logits(sample.key)
            logits = series(dct(coarse), (coarse.shape[-2], coarse.shape[-1]), grid=sample.size)
        return (logits.sigmoid() if len(logits) == 1 else logits.softmax(dim=0)).numpy()

    def mask(self, sample: Sample) -> np.ndarray:
        """The soft mask at the threshold 0.5, uint8 (H, W) of 0 and 1."""
        return (self.probability(sample)[0] >= THRESHOLD).astype(np.uint8)

    def as_truth(self, sample: Sample) -> Sample:
        """The sample with the teacher's mask in place of its own, to score agreement."""
        return replace(sample, read_mask=partial(self.mask, sample))


def soft_masks_of(run: Run) -> dict[str, SoftMasks]:
    """The mask teachers of a run whose caches exist, by name.

    Teachers of features alone, and those with other classes than the student, are left out.
    """
    found: dict[str, SoftMasks] = {}
    for name, entry in run.recipe.consulted.items():
        if entry.adapter in MASK_TEACHERS and cache.exists(run.caches[name]):
            store = cache.open(run.caches[name])
            if MASK in store.spec.names and store.spec[MASK].channels == run.recipe.student.classes:
                found[name] = SoftMasks(store, decoder_of(run, name))
    return found


def decoder_of(run: Run, name: str) -> TaskTeacher | None:
    """A task teacher's published decoder with the cache that it reads; None if either is not available."""
    recipe = run.recipe.teachers[name]
    path = run.caches.get(recipe.of or "")
    if recipe.adapter != "task" or recipe.weights is None or path is None or not cache.exists(path):
        return None
    source = cache.open(path)
    teacher = TaskTeacher(Path(recipe.weights).expanduser(), source)
    try:
        _ = teacher.facts, teacher.decoder
    except (FileNotFoundError, ValueError) as error:
        logger.warning("teacher %s is scored only on the images whose soft masks are in its cache: %s", name, error)
        return None
    return teacher


def known(masks: SoftMasks, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples whose soft masks are known."""
    return tuple(sample for sample in samples if masks.has(sample))
