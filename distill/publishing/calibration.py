"""Threshold and temperature with which a student is served, from one pass over the validation images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from distill.data.sample import Sample
from distill.inference.segmenter import require_probability
from distill.publishing.temperature import Calibration, fit_temperature, pixels_of
from distill.publishing.threshold import Choice, choose_threshold, dice_on_grid
from distill.runtime.progress import progress

PIXELS_OF_AN_IMAGE, PIXELS = 1 << 14, 1 << 22  # for the temperature, at most; evenly spread where there are more


def calibrate(
    predictor: Callable[[np.ndarray], np.ndarray], samples: Sequence[Sample], *, classes: int
) -> tuple[Choice | None, Calibration]:
    """The threshold at temperature 1, of one class alone, and the temperature; every image has the same weight.

    Args:
        predictor: image uint8 (H, W, 3) -> probability (K, H, W) at temperature 1.
        samples: validation images with masks.
        classes: K.

    Raises:
        ValueError: there are no images, or the predictor's output is no probability.
    """
    if not samples:
        raise ValueError("expected validation images to calibrate on, got none; give data.fractions a share")
    most = max(1, min(PIXELS_OF_AN_IMAGE, PIXELS // len(samples)))
    table, pixels = [], []
    for sample in progress(samples, what="calibrate", total=len(samples)):
        probability, mask = predictor(sample.read_image()), sample.read_mask()
        require_probability(probability, (classes, *mask.shape), what=f"the student on {sample.dataset}/{sample.stem}")
        pixels.append(pixels_of(probability, mask, most=most, classes=classes))
        if classes == 1:
            table.append(dice_on_grid(probability[0], mask))
    return choose_threshold(table) if table else None, fit_temperature(pixels)
