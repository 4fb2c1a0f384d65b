"""All figures of one prediction and one mask, for students, teachers and predictions from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from distill.metrics import saliency, surface, threshold_sweep
from distill.metrics.calibration import reliability
from distill.metrics.overlap import IGNORED, THRESHOLD, Flags, confusion, dice, iou, precision, sensitivity, specificity

TOLERANCE = 2.0  # pixels, of surface Dice
ROUNDING = 1e-4  # how far a resize may carry a probability beyond 0 and 1
EIGHT = np.ones((3, 3), dtype=bool)  # neighbours that make one patch


@dataclass(frozen=True)
class ImageScore:
    """One image's figures, and the counts from which figures of a whole set are computed."""

    figures: dict[str, float]  # named as in `distill.metrics.names`
    curves: threshold_sweep.Curves
    counts: tuple[int, int, int, int]  # pixels: true positive, false positive, false negative, true negative
    patches: int  # connected predicted patches on an empty mask, each a false positive; 0 for other masks
    reliability: threshold_sweep.Values  # (3, bins), see `distill.metrics.calibration`
    group: str | None = None  # the sequence or patient that it comes from, if known

    @property
    def share(self) -> float:
        """Share of the image's area that the mask covers."""
        true, _, missed, _ = self.counts
        return (true + missed) / sum(self.counts)


def score_everything(
    probability: NDArray, mask: NDArray, *, threshold: float = THRESHOLD, tolerance: float = TOLERANCE
) -> ImageScore:
    """All figures of one prediction of one class, at the mask's own size.

    Args:
        probability: (H, W) in [0, 1]. Saved grey values must be divided by 255 in double precision: in single
            precision, some values equal to the threshold fall below it.
        mask: (H, W), foreground where not 0. For the agreement of a student with its teacher, the teacher's mask at its
            threshold.
        threshold: the probability from which (inclusive) a pixel is foreground.
        tolerance: of surface Dice, in pixels.

    Raises:
        ValueError: the shapes differ, or a probability lies outside [0, 1] or is nan.
    """
    probability, truth = np.asarray(probability), np.asarray(mask) != 0
    if probability.shape != truth.shape or truth.ndim != 2:
        raise ValueError(
            f"expected a probability (H, W) of the mask's shape {truth.shape}, got {probability.shape}; "
            "resize the probability to the mask, never the mask to the prediction"
        )
    low, high = float(probability.min()), float(probability.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ValueError(
            f"expected probabilities in [0, 1], got {low:g} to {high:g}; give grey values divided by 255, or the "
            "sigmoid of logits"
        )
    probability = probability.clip(0, 1)
    stretched, found = threshold_sweep.stretch(probability), probability >= threshold
    curves = threshold_sweep.curves(stretched, truth)
    return ImageScore(
        figures={
            **mask_figures(found, truth, tolerance=tolerance),
            "dice_mean_over_thresholds": float(curves.dice.mean()),
            "dice_max_over_thresholds": float(curves.dice.max()),
            "iou_mean_over_thresholds": float(curves.iou.mean()),
            "e_measure_mean": float(curves.e_measure.mean()),
            "e_measure_max": float(curves.e_measure.max()),
            "weighted_fmeasure": saliency.weighted_f_measure(stretched, truth),
            "s_measure": saliency.s_measure(stretched, truth),
            "mae": saliency.mean_absolute_error(stretched, truth),
        },
        curves=curves,
        counts=_counts(found, truth),
        patches=0 if truth.any() else count_patches(found),
        reliability=reliability(probability, truth),
    )


def mask_figures(found: Flags, truth: Flags, *, tolerance: float) -> dict[str, float]:
    """The overlap and contour figures of two bool masks (H, W); `tolerance` is that of surface Dice in pixels."""
    distances = surface.contour_distances(found, truth)
    return {
        "dice": float(dice(found, truth)),
        "iou": float(iou(found, truth)),
        "sensitivity": float(sensitivity(found, truth)),
        "specificity": float(specificity(found, truth)),
        "precision": float(precision(found, truth)),
        "hd95": surface.hd95(distances),
        "average_surface_distance": surface.average_surface_distance(distances),
        "surface_dice": surface.surface_dice(distances, tolerance=tolerance),
        "boundary_iou": surface.boundary_iou(found, truth),
    }


def score_classes(predicted: NDArray, truth: NDArray, *, classes: int) -> dict[int, dict[str, float]]:
    """Overlap and contour figures of each class of one image against the rest.

    Args:
        predicted: class numbers (H, W), as `distill.metrics.overlap.labels` gives them.
        truth: class numbers (H, W), 0 the background; pixels of 255 are ignored.
        classes: number of classes, background included.

    Returns:
        class number -> figures, for the classes other than background that occur in the mask or the prediction. Figures
        over 256 thresholds and saliency figures need a single probability and are left out.
    """
    counted = truth != IGNORED
    pairs = {number: ((predicted == number) & counted, truth == number) for number in range(1, classes)}
    return {
        number: mask_figures(found, true, tolerance=TOLERANCE)
        for number, (found, true) in pairs.items()
        if found.any() or true.any()
    }


def count_patches(found: Flags) -> int:
    """The number of connected foreground patches (eight neighbours) of a mask (H, W)."""
    return int(ndimage.label(found, structure=EIGHT)[1])


def _counts(found: Flags, truth: Flags) -> tuple[int, int, int, int]:
    """The TP, FP, FN and TN of bool masks (H, W), in pixels."""
    true, false, missed = map(int, confusion(found, truth))
    return true, false, missed, truth.size - true - false - missed
