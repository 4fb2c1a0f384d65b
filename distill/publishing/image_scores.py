"""The image scores of a published student: how well they find the test images whose mask failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill.data.sample import Sample
from distill.inference.model import InferenceModel
from distill.inference.regions import image_score
from distill.metrics.image_score import failure_auroc
from distill.metrics.overlap import overlap
from distill.runtime.progress import progress


def score_images(model: InferenceModel, test: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, Any]]:
    """Mean expected and true Dice of the served masks, and `failure_auroc`, for each test set.

    Args:
        model: with its temperature and thresholds.
        test: the test samples of each data set.
    """
    return {name: _score(model, samples, name) for name, samples in test.items()}


def _score(model: InferenceModel, samples: Sequence[Sample], name: str) -> dict[str, Any]:
    expected: list[float] = []
    dice: list[float] = []
    for sample in progress(samples, what=f"image scores of {name}", total=len(samples)):
        probability = model.predict(sample.read_image())
        mask = model.thresholds.mask(probability)
        expected.append(image_score(mask, probability))
        dice.append(overlap(mask, sample.read_mask(), classes=model.classes)[0])
    return {"expected_dice": float(np.mean(expected)), "dice": float(np.mean(dice)), **failure_auroc(expected, dice)}
