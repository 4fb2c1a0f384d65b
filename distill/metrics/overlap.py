"""Overlap of a predicted and a true mask, per image.

The project's convention, unless a figure is named otherwise: Dice and IoU of each image at threshold 0.5 and at the
mask's own size, then averaged over images. An empty prediction of an empty mask scores 1; if only one of the two is
empty, the score is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CONVENTION = (
    "per image at threshold 0.5, at the mask's own size, averaged over images; "
    "an empty prediction of an empty mask scores 1"
)
CONVENTION_SEVERAL = (
    "per image, the class of highest probability, at the mask's own size, averaged over the classes but background"
    " that occur in the mask or the prediction, then over images; an image without any scores 1"
)
THRESHOLD = 0.5
IGNORED = 255  # pixels that are ignored, in masks of several classes

Flags = NDArray[np.bool_]


def confusion(prediction: Flags, truth: Flags) -> tuple[NDArray, NDArray, NDArray]:
    """Pixels that are true positives, false positives and false negatives.

    Args:
        prediction: bool (..., H, W).
        truth: bool, of the same shape.

    Returns:
        three int64 arrays of shape (...).

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f"expected a prediction of the mask's shape {truth.shape}, got {prediction.shape}; "
            "resize the probability to the mask, never the mask to the prediction"
        )
    both = np.count_nonzero(prediction & truth, axis=(-2, -1))
    return (
        np.asarray(both),
        np.count_nonzero(prediction, axis=(-2, -1)) - both,
        np.count_nonzero(truth, axis=(-2, -1)) - both,
    )


def dice(prediction: Flags, truth: Flags) -> NDArray:
    """2 TP / (2 TP + FP + FN) of bool masks (..., H, W), float64 (...) in [0, 1]; 1 if both are empty."""
    both, extra, missed = confusion(prediction, truth)
    return share_of(2 * both, 2 * both + extra + missed)


def iou(prediction: Flags, truth: Flags) -> NDArray:
    """TP / (TP + FP + FN) of bool masks (..., H, W), float64 (...) in [0, 1]; 1 if both are empty."""
    both, extra, missed = confusion(prediction, truth)
    return share_of(both, both + extra + missed)


def sensitivity(prediction: Flags, truth: Flags) -> NDArray:
    """TP / (TP + FN) of bool masks (..., H, W), float64 (...): the share of true pixels that are found; 1 if none."""
    both, _, missed = confusion(prediction, truth)
    return share_of(both, both + missed)


def specificity(prediction: Flags, truth: Flags) -> NDArray:
    """TN / (TN + FP) of bool masks (..., H, W), float64 (...): the share of background predicted as such; 1 if none."""
    _, extra, _ = confusion(prediction, truth)
    background = np.count_nonzero(~truth, axis=(-2, -1))
    return share_of(background - extra, np.asarray(background))


def precision(prediction: Flags, truth: Flags) -> NDArray:
    """TP / (TP + FP) of bool masks (..., H, W), float64 (...): the share of true among predicted pixels; 1 if none."""
    both, extra, _ = confusion(prediction, truth)
    return share_of(both, both + extra)


def share_of(part: NDArray, whole: NDArray) -> NDArray:
    """`part / whole`, float64 (...), or 1 where `whole` is 0."""
    return np.divide(part, whole, out=np.ones(np.shape(whole)), where=whole > 0)


def without_void(mask: NDArray) -> NDArray:
    """Class numbers (H, W) of a mask for pictures and counts, with ignored pixels as background."""
    return mask % IGNORED


def labels(probability: NDArray, *, threshold: float = THRESHOLD) -> NDArray[np.uint8]:
    """Class numbers (H, W) of a probability (K, H, W): for K = 1, 1 from `threshold` on; else the most probable."""
    if len(probability) == 1:
        return (probability[0] >= threshold).astype(np.uint8)
    return probability.argmax(axis=0).astype(np.uint8)


def foreground_of(probability: NDArray) -> NDArray:
    """The probability of foreground (H, W), from that of one class or of several with background (K, H, W)."""
    return probability[0] if len(probability) == 1 else 1 - probability[0]


def overlap(predicted: NDArray, truth: NDArray, *, classes: int = 1) -> tuple[float, float]:
    """Dice and IoU of one image in the project's convention.

    Args:
        predicted: class numbers (H, W), as `labels` gives them.
        truth: the mask (H, W): 0 and 1 for `classes` 1, else 0 (background) to classes - 1, with 255 ignored.
        classes: channels of the network's output.

    Raises:
        ValueError: the shapes differ.
    """
    if classes == 1:
        return float(dice(predicted > 0, truth > 0)), float(iou(predicted > 0, truth > 0))
    counted = truth != IGNORED
    numbers = np.arange(1, classes)[:, None, None]
    found, true = (predicted == numbers) & counted, truth == numbers
    occurs = (found | true).any(axis=(1, 2))
    if not occurs.any():
        return 1.0, 1.0
    return float(dice(found, true)[occurs].mean()), float(iou(found, true)[occurs].mean())
