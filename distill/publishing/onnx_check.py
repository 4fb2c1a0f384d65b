"""The check of an ONNX file before it is published: is it the network that was evaluated?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from distill.data.sample import Sample
from distill.evaluation.predictions_csv import Score
from distill.inference.model import InferenceModel
from distill.inference.onnx_file import Runner
from distill.inference.segmenter import require_probability
from distill.metrics.overlap import labels, overlap
from distill.runtime.progress import progress

Item = TypeVar("Item")
LARGEST_DIFFERENCE = 1e-3
"""Of any probability, between torch and ONNX Runtime: a quarter of a grey level. If only the order of sums differs,
sound students have reached 1.8e-4; another resize or another normalisation makes hundredths."""
LARGEST_DICE_DIFFERENCE = 1e-3  # of a data set's mean Dice, between metrics.json and ONNX Runtime
IMAGES_AT_MOST = 200  # of a data set, on which that is checked; evenly spread if there are more
SIZES_AT_MOST = 4  # different image sizes that are also run as a batch of two, and cut to an odd size


@dataclass
class Comparison:
    """The largest difference between torch and ONNX Runtime, and where it occurred."""

    max_difference: float = 0.0
    worst: str = ""  # the images with that difference
    batches: int = 0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    dice: dict[str, dict[str, float]] = field(default_factory=dict)  # data set -> images, onnx, torch

    def compare(self, expected: np.ndarray, received: np.ndarray, *, what: str) -> None:
        """Compares one batch of probabilities (N, K, H, W) by torch and by ONNX Runtime.

        Raises:
            ValueError: torch's are not probabilities, or shapes differ, or values by `LARGEST_DIFFERENCE` or more.
        """
        if expected.shape != received.shape:
            raise ValueError(
                f"model.onnx returns shape {received.shape} for {what}, but torch returns {expected.shape}"
            )
        require_probability(expected, received.shape, what=f"the student on {what}")
        difference = float(np.abs(expected - received).max())
        if not difference < LARGEST_DIFFERENCE:
            raise ValueError(
                f"model.onnx differs from torch by {difference:.1e} on {what}, but at most {LARGEST_DIFFERENCE:.0e} "
                "is allowed; nothing was published"
            )
        self.batches += 1
        self.sizes.add((expected.shape[2], expected.shape[3]))
        if difference >= self.max_difference:
            self.max_difference, self.worst = difference, what

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data, for published.json and the model card."""
        return {
            "max_difference": self.max_difference,
            "worst": self.worst,
            "batches": self.batches,
            "sizes": {"count": len(self.sizes), "smallest": min(self.sizes), "largest": max(self.sizes)},
            "dice": self.dice,
        }


def check_onnx(
    model: InferenceModel, run: Runner, *, test: Mapping[str, Sequence[Sample]], scores: Sequence[Score]
) -> dict[str, Any]:
    """Compares torch and ONNX Runtime on the test images at their own sizes, one at a time and two at a time.

    Args:
        model: the student that was evaluated, on the CPU.
        run: the ONNX file.
        test: the test samples of each data set.
        scores: the scores of the evaluation, one per image (`predictions.csv`).

    Returns:
        the largest difference and the Dice of both, JSON-able.

    Raises:
        ValueError: they disagree, or the student's output is not a probability.
    """
    comparison = Comparison()
    dice = {(figures.dataset, figures.stem, figures.key): figures.dice for figures in scores}
    for name, samples in test.items():
        chosen = evenly_with_both_ends(samples, IMAGES_AT_MOST)
        found: list[float] = []
        for sample in progress(chosen, what=f"check model.onnx on {name}", total=len(chosen)):
            image = sample.read_image()
            expected, received = by_torch(model, image[None]), run(image[None])
            comparison.compare(expected, received, what=f"{name}/{sample.stem}")
            found.append(overlap(labels(received[0]), sample.read_mask(), classes=model.classes)[0])
        by_evaluation = float(np.mean([dice[sample.dataset, sample.stem, sample.key] for sample in chosen]))
        comparison.dice[name] = {"images": len(chosen), "onnx": float(np.mean(found)), "torch": by_evaluation}
        if not abs(comparison.dice[name]["onnx"] - by_evaluation) < LARGEST_DICE_DIFFERENCE:
            raise ValueError(
                f"model.onnx scores Dice {comparison.dice[name]['onnx']:.4f} on {len(chosen)} images of {name}, but "
                f"the evaluation says {by_evaluation:.4f}; nothing was published. Delete metrics.json and "
                "evaluate again"
            )
    for what, images in pairs(test):
        expected, received = by_torch(model, images), run(images)
        comparison.compare(expected, received, what=what)
    return comparison.to_json()


def by_torch(model: InferenceModel, images: np.ndarray) -> np.ndarray:
    """Probability (N, K, H, W) of images uint8 (N, H, W, 3)."""
    with torch.inference_mode():
        return model(torch.from_numpy(np.ascontiguousarray(images))).numpy()


def pairs(test: Mapping[str, Sequence[Sample]]) -> Iterator[tuple[str, np.ndarray]]:
    """Named batches uint8 (2, H, W, 3): for a few sizes, one image with its mirror image, whole and cut to an odd
    size.
    """
    first: dict[tuple[int, int], Sample] = {}
    for samples in test.values():
        for sample in samples:
            first.setdefault(sample.size, sample)
    for sample in evenly_with_both_ends(list(first.values()), SIZES_AT_MOST):
        image = sample.read_image()
        height, width = (2 * side // 3 | 1 for side in image.shape[:2])
        for cut in (image, image[:height, :width]):
            what = f"two images of {cut.shape[0]} x {cut.shape[1]} pixels from {sample.dataset}/{sample.stem}"
            yield what, np.stack([cut, cut[:, ::-1]])


def evenly_with_both_ends(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced, including the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(position)] for position in np.linspace(0, len(items) - 1, count)]
