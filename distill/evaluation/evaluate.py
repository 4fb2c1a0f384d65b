"""Scores the trained student on every test data set; the same code scores validation images and teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

import cache
from distill.config.schema import Recipe
from distill.data.sample import Sample
from distill.distillation.targets import plan_inputs
from distill.evaluation import task_decoder
from distill.evaluation.predictions_csv import Score, write_predictions
from distill.inference.model import InferenceModel
from distill.metrics.aggregate import summarise_classes, summarise_empty, summarise_set, summarise_sizes
from distill.metrics.calibration import summarise_confidence
from distill.metrics.names import conventions
from distill.metrics.overlap import CONVENTION, CONVENTION_SEVERAL, THRESHOLD, count_sequences, labels, overlap, summary
from distill.metrics.per_image import TOLERANCE, score_classes, score_everything
from distill.runs.build import build_student
from distill.runs.caches import open_caches
from distill.runs.fingerprint import digest_file
from distill.runs.run import Run, as_run
from distill.runs.state_files import read_metrics, update_metrics
from distill.runs.weights import load_weights
from distill.runtime.progress import progress
from students import Student

if TYPE_CHECKING:
    from accelerate import Accelerator

OVERLAPS = ("dice", "iou")  # the figures that every score has
DRAWN = "sequences"  # what the bootstrap draws, where known, so that runs scored otherwise are scored again


def evaluate(work: Run | Recipe) -> dict[str, Any]:
    """Scores a run's student on each test data set and returns the run's metrics.

    Writes `datasets`, `student`, `teachers` and `convention` into metrics.json and one line an image into
    predictions.csv. The images are shared by the processes, and the result is the same for any number of them. Returns
    at once where both files are there for the same weights.

    Raises:
        FileNotFoundError: no student has been trained.
        ValueError: there are no test images.
    """
    run = as_run(work)
    recipe, accelerator = run.recipe, run.accelerator
    if not all(run.splits.test.values()) or not run.splits.test:
        raise ValueError(
            "there are no test images to evaluate on; give the split a test.csv or data.fractions a test share, "
            "or leave evaluate and publish out of do="
        )
    caches = open_caches(run, learning=False) if recipe.reads_features else {}
    student = load_student(run, caches).to(accelerator.device)
    of: dict[str, Any] = {"weights": digest_file(run.weights), "resamples": recipe.evaluate.bootstrap, "drawn": DRAWN}
    metrics = read_metrics(run)
    if run.agree(lambda: metrics.get("evaluated") == of and (run.folder / "predictions.csv").is_file()):
        return metrics
    from distill.evaluation.mask_teachers import score_teachers  # which scores by the functions of this module

    who = examinee_of(student.eval(), run, caches)
    scores = {
        name: score(
            who.predictor,
            samples,
            read=who.read,
            what=f"evaluate {name}",
            classes=recipe.student.classes,
            whole=True,
            accelerator=accelerator,
        )
        for name, samples in run.splits.test.items()
    }
    teachers = score_teachers(run, who, scores)
    if accelerator.is_main_process:
        write_predictions(run.folder / "predictions.csv", scores)
        update_metrics(
            run,
            datasets={name: summarise(part, resamples=of["resamples"]) for name, part in scores.items()},
            student=task_decoder.cost(student)
            if recipe.reads_features
            else cost(student, image_size=recipe.image_size),
            convention=CONVENTION if recipe.student.classes == 1 else CONVENTION_SEVERAL,
            conventions=conventions(threshold=THRESHOLD, tolerance=TOLERANCE),
            evaluated=of,
            teachers=teachers,
        )
    accelerator.wait_for_everyone()
    return read_metrics(run)


@dataclass(frozen=True)
class Examinee:
    """Whoever is scored: what it is shown of a sample, and how it answers with a probability (K, H, W)."""

    predictor: Callable[[Any], np.ndarray]
    read: Callable[[Sample], Any]


def examinee_of(network: Any, run: Run, caches: Mapping[str, cache.Cache]) -> Examinee:  # noqa: ANN401
    """A student is shown images; a task decoder what its teacher's cache holds of them. `network` is not copied."""
    if run.recipe.reads_features:
        inputs = plan_inputs(run.recipe, caches)
        return Examinee(partial(task_decoder.predict, network), partial(task_decoder.show, caches, inputs))
    model = InferenceModel(network, image_size=run.recipe.image_size).to(run.accelerator.device).eval()
    return Examinee(model.predict, read_image)


def read_image(sample: Sample) -> np.ndarray:
    """The image of a sample, uint8 (H, W, 3)."""
    return sample.read_image()


def score(
    predictor: Callable[[Any], np.ndarray],
    samples: Sequence[Sample],
    *,
    read: Callable[[Sample], Any] = read_image,
    what: str = "score",
    classes: int = 1,
    whole: bool = False,
    shown: bool = True,
    accelerator: Accelerator | None = None,
) -> list[Score]:
    """Dice and IoU of each sample, in the order of `samples`; every other figure too, if `whole`.

    Args:
        predictor: what `read` gives -> probability (K, H, W): a student, a teacher, an ONNX session.
        samples: images with masks; each is read when its turn comes.
        read: what the predictor is shown of a sample: its image, uint8 (H, W, 3).
        what: names the work in the progress shown.
        classes: K.
        whole: whether every figure of `distill.metrics` is taken, for K > 1 those of each class against the rest; 8 ms
            an image of 288 x 384 pixels.
        shown: whether progress is shown at all.
        accelerator: where given, every process scores its share and all get the whole list.
    """
    rank, ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    mine = list(enumerate(samples))[rank::ranks]
    scored = [
        (index, score_one(predictor(read(sample)), sample, classes=classes, whole=whole))
        for index, sample in progress(mine, what=what, total=len(mine), shown=shown and rank == 0)
    ]
    if accelerator is not None and ranks > 1:
        from accelerate.utils import gather_object

        scored = gather_object(scored)
    return [figures for _, figures in sorted(scored, key=lambda item: item[0])]


def score_one(probability: np.ndarray, sample: Sample, *, classes: int = 1, whole: bool = False) -> Score:
    """The figures of one image, of which a probability (K, H, W) was predicted."""
    mask = sample.read_mask()
    dice, iou = overlap(labels(probability), mask, classes=classes)
    every = score_everything(probability[0], mask) if whole and classes == 1 else None
    apart = score_classes(labels(probability), mask, classes=classes) if whole and classes > 1 else None
    every = replace(every, group=sample.group) if every else None
    return Score(sample.dataset, sample.stem, sample.key, dice, iou, sample.group, every, apart)


def validate(
    network: nn.Module, run: Run, *, caches: Mapping[str, cache.Cache] | None = None, select: str = "dice"
) -> dict[str, float]:
    """Mean Dice over a run's validation images in the convention of the test, and one more figure where asked for.

    The processes of a run share the images.

    Args:
        network: the one in training; neither copied nor moved, and left in the mode it was in.
        run: whose validation images, recipe and processes count.
        caches: those that a task decoder reads.
        select: a figure of `distill.metrics.names.FIGURES`; of several classes dice or iou.
    """
    modes = {module: module.training for module in network.modules()}
    who = examinee_of(network.eval(), run, caches or {})
    scores = score(
        who.predictor,
        run.splits.val,
        read=who.read,
        classes=run.recipe.student.classes,
        whole=select not in OVERLAPS,
        shown=False,
        accelerator=run.accelerator,
    )
    for module, training in modes.items():
        module.training = training
    figures = {name: float(np.mean([getattr(figures, name) for figures in scores])) for name in OVERLAPS}
    if select not in OVERLAPS:
        figures[select] = summarise_set([one.whole for one in scores if one.whole], resamples=1)[select]["mean"]
    return {name: figures[name] for name in dict.fromkeys(("dice", select))}


def is_evaluated(run: Run) -> bool:
    """Whether training is complete and its weights have been scored."""
    if not (run.trained.is_file() and run.weights.is_file() and (run.folder / "predictions.csv").is_file()):
        return False
    return read_metrics(run).get("evaluated", {}).get("weights") == digest_file(run.weights)


def load_student(run: Run, caches: Mapping[str, cache.Cache] | None = None) -> Any:  # noqa: ANN401
    """The student that `train` kept, in eval mode on the CPU; a task decoder's shape follows from its cache.

    Raises:
        FileNotFoundError: none has been trained.
    """
    student = build_student(run.recipe, caches or {})
    student.load_state_dict(load_weights(run))
    return student.eval()


def cost(student: Student, *, image_size: int) -> dict[str, int]:
    """Parameters, and multiply-accumulates of one image at `image_size` (half of what PyTorch counts as FLOP)."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    device = next(student.parameters()).device
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:  # not every fused attention is counted
        student(torch.zeros(1, 3, image_size, image_size, device=device))
    parameters = sum(parameter.numel() for parameter in student.parameters())
    return {"parameters": parameters, "macs": counter.get_total_flops() // 2, "image_size": image_size}


def summarise(scores: Sequence[Score], *, resamples: int) -> dict[str, Any]:
    """The entry of one data set in metrics.json."""
    every = [figures.whole for figures in scores if figures.whole is not None]
    groups = [figures.group for figures in scores]
    told: dict[str, Any] = {"images": len(scores)}
    if sequences := count_sequences(groups):
        told["sequences"] = sequences  # drawn whole by the bootstrap
    if every:
        return {
            **told,
            **summarise_set(every, resamples=resamples),
            "by_size": summarise_sizes(every, resamples=resamples),
            "empty_masks": summarise_empty(every, resamples=resamples),
            "confidence": summarise_confidence(every, resamples=resamples),
        }
    apart = [figures.classes for figures in scores if figures.classes is not None]
    return {
        **told,
        "dice": summary([figures.dice for figures in scores], groups=groups, resamples=resamples),
        "iou": summary([figures.iou for figures in scores], groups=groups, resamples=resamples),
        **({"by_class": summarise_classes(apart, groups=groups, resamples=resamples)} if apart else {}),
    }


def say(figures: Mapping[str, Any]) -> str:
    """`Dice 0.812 [0.780, 0.841], IoU 0.731 [0.700, 0.760] over 100 images`."""
    parts = [
        f"{title} {figures[name]['mean']:.3f} [{figures[name]['low']:.3f}, {figures[name]['high']:.3f}]"
        for name, title in (("dice", "Dice"), ("iou", "IoU"))
    ]
    return f"{', '.join(parts)} over {figures['images']} images"
