"""Scoring: a predictor's probabilities against the masks of samples, for students, teachers and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

import cache
from distill.data.read_ahead import read_ahead
from distill.data.sample import Sample
from distill.distillation.targets import plan_inputs
from distill.evaluation import task_decoder
from distill.evaluation.predictions_csv import Score
from distill.inference.model import InferenceModel
from distill.metrics.aggregate import summarise_set
from distill.metrics.confusion import class_pairs
from distill.metrics.names import OVERLAPS
from distill.metrics.overlap import labels, overlap
from distill.metrics.per_image import score_classes, score_everything
from distill.metrics.score_table import ScoreTable
from distill.runs.run import Run
from distill.runtime.progress import progress

if TYPE_CHECKING:
    from accelerate import Accelerator

GATHERED = 64  # scores of each process that are exchanged together, 9 kB each

Predictor = Callable[[Sample], np.ndarray]  # -> probability (K, H, W) at the image's own size


def predictor_of(network: Any, run: Run, caches: Mapping[str, cache.Cache]) -> Predictor:  # noqa: ANN401
    """The predictor for a student, which reads images, or for a task decoder, which reads its teacher's cache.

    `network` is not copied.
    """
    if run.recipe.reads_features:
        return partial(task_decoder.predict, network, caches, plan_inputs(run.recipe, caches))
    model = InferenceModel(network, image_size=run.recipe.image_size).to(run.accelerator.device).eval()
    return partial(predict_image, model)


def predict_image(model: InferenceModel, sample: Sample) -> np.ndarray:
    """A student's probability (K, H, W) for a sample."""
    return model.predict(sample.read_image())


def score(
    predictor: Predictor,
    samples: Sequence[Sample],
    *,
    what: str = "score",
    classes: int = 1,
    whole: bool = False,
    shown: bool = True,
    reads_images: bool = True,
    accelerator: Accelerator | None = None,
) -> Iterator[Score]:
    """Yields Dice and IoU of each sample, in the order of `samples`; if `whole`, all other figures too.

    Args:
        predictor: for a student, a teacher or an ONNX session.
        samples: images with masks; the next ones are read on threads.
        what: name shown with the progress.
        classes: K.
        whole: whether every figure of `distill.metrics` is computed, for K > 1 of each class against the rest; takes
            8 ms for an image of 288 x 384 pixels.
        shown: whether progress is shown at all.
        reads_images: whether the predictor reads images, and not a cache.
        accelerator: if given, every process scores its share, and all get all scores, some at a time.
    """
    rank, ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    mine = range(rank, len(samples), ranks)
    read = zip(mine, read_ahead((samples[index] for index in mine), images=reads_images), strict=True)
    scored = (
        (index, score_one(predictor(sample), sample, classes=classes, whole=whole))
        for index, sample in progress(read, what=what, total=len(mine), shown=shown and rank == 0)
    )
    if ranks == 1:
        yield from (figures for _, figures in scored)
        return
    from accelerate.utils import gather_object

    for _ in range(0, len(samples), GATHERED * ranks):
        some = gather_object(list(islice(scored, GATHERED)))
        yield from (figures for _, figures in sorted(some, key=lambda item: item[0]))


def score_one(probability: np.ndarray, sample: Sample, *, classes: int = 1, whole: bool = False) -> Score:
    """The scores of one image, from a predicted probability (K, H, W)."""
    mask = sample.read_mask()
    found = labels(probability)
    dice, iou = overlap(found, mask, classes=classes)
    every = replace(score_everything(probability[0], mask), group=sample.group) if whole and classes == 1 else None
    by_class = score_classes(found, mask, classes=classes) if whole and classes > 1 else None
    pairs = class_pairs(found, mask, classes=classes) if whole and classes > 1 else None
    return Score(sample.dataset, sample.stem, sample.key, dice, iou, sample.group, every, by_class, pairs)


def validate(
    network: nn.Module, run: Run, *, caches: Mapping[str, cache.Cache] | None = None, select: str = "dice"
) -> dict[str, float]:
    """Mean Dice over a run's validation images, in the convention of the test, and the figure `select`.

    The processes of a run share the images.

    Args:
        network: in training; it is neither copied nor moved, and its mode is restored.
        run: for its validation images, recipe and processes.
        caches: those that a task decoder reads.
        select: a figure of `distill.metrics.names.FIGURES`; for several classes dice or iou.
    """
    modes = {module: module.training for module in network.modules()}
    scores = list(
        score(
            predictor_of(network.eval(), run, caches or {}),
            run.validation,
            classes=run.recipe.student.classes,
            whole=select not in OVERLAPS,
            shown=False,
            reads_images=not run.recipe.reads_features,
            accelerator=run.accelerator,
        )
    )
    for module, training in modes.items():
        module.training = training
    figures = {name: float(np.mean([getattr(one, name) for one in scores])) for name in OVERLAPS}
    if select not in OVERLAPS:
        table = ScoreTable.of([one.whole for one in scores if one.whole])
        figures[select] = summarise_set(table, resamples=1)[select]["mean"]
    return {name: figures[name] for name in dict.fromkeys(("dice", select))}
