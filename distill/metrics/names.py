"""The names of all figures with their titles and conventions, as readable tables."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """The title of a figure and its convention; `{threshold}`, `{tolerance}` stand for the chosen values."""

    title: str
    convention: str


STRETCHED = "prediction stretched to 0..1 by its own minimum and maximum"
DICE = {
    "dice": Figure(
        "each image at {threshold}, mean over images",
        "2 TP / (2 TP + FP + FN) of each image at threshold {threshold}, averaged over images; an empty prediction of "
        "an empty mask scores 1",
    ),
    "dice_mean_over_thresholds": Figure(
        "PraNet: each image at 256 thresholds, mean of all",
        f"PraNet's meanDic: {STRETCHED}, averaged over 256 thresholds and over images; an empty mask scores 0",
    ),
    "dice_max_of_set": Figure(
        "best of 256 thresholds for the set",
        f"{STRETCHED}; the largest value of Dice averaged over images as a function of the threshold; an empty mask "
        "scores 0",
    ),
    "dice_max_over_thresholds": Figure(
        "best of 256 thresholds for each image",
        f"{STRETCHED}; the largest Dice of each image over 256 thresholds, averaged over images; an empty mask "
        "scores 0",
    ),
    "dice_pooled": Figure(
        "pooled: all pixels as one image at {threshold}",
        "micro: TP, FP and FN at threshold {threshold} summed over images before the division; 1 if all are 0",
    ),
}
OVERLAP = {
    "iou": Figure("IoU", "TP / (TP + FP + FN) at threshold {threshold}; 1 if both masks are empty"),
    "iou_mean_over_thresholds": Figure(
        "IoU, PraNet's", f"PraNet's meanIoU: {STRETCHED}, averaged over 256 thresholds; an empty mask scores 0"
    ),
    "iou_pooled": Figure("IoU, pooled", "micro: TP, FP and FN at threshold {threshold} summed over images"),
    "sensitivity": Figure("sensitivity", "TP / (TP + FN) at threshold {threshold}; 1 if the mask is empty"),
    "specificity": Figure("specificity", "TN / (TN + FP) at threshold {threshold}; 1 if the mask is the whole image"),
    "precision": Figure("precision", "TP / (TP + FP) at threshold {threshold}; 1 if the prediction is empty"),
}
SALIENCY = {
    "weighted_fmeasure": Figure(
        "weighted F-measure", f"Margolin 2014, beta 1, as PySODMetrics; {STRETCHED}; an empty mask scores 0"
    ),
    "s_measure": Figure(
        "S-measure", f"Fan 2017, alpha 0.5, as PySODMetrics; {STRETCHED}; for an empty mask 1 - the prediction's mean"
    ),
    "e_measure_mean": Figure(
        "E-measure, mean",
        f"Fan 2018, averaged over 256 thresholds, as PySODMetrics (divided by pixels - 1, so it may exceed 1 by "
        f"1 / pixels); {STRETCHED}; for an empty mask the share predicted as background",
    ),
    "e_measure_max_of_set": Figure(
        "E-measure, max", "the largest value of the E-measure averaged over images as a function of the threshold"
    ),
    "e_measure_max": Figure("E-measure, max of each", "the largest value of each image, averaged over images"),
    "mae": Figure("mean absolute error", f"over pixels, as PySODMetrics; {STRETCHED}"),
}
CONTOUR = {
    "hd95": Figure(
        "HD95, pixels",
        "the larger of the 95th percentiles of the distances between contours in both directions at threshold "
        "{threshold}, as MONAI; 0 if both masks are empty, the image's diagonal if only one is",
    ),
    "average_surface_distance": Figure(
        "average surface distance, pixels",
        "symmetric: mean over the contour pixels of both masks; 0 if both are empty, the image's diagonal if only "
        "one is",
    ),
    "surface_dice": Figure(
        "surface Dice",
        "Nikolov 2018: share of both contours' pixels within {tolerance} pixels of the other contour, pixels counted "
        "as in MONAI; 1 if both masks are empty, 0 if only one is",
    ),
    "boundary_iou": Figure(
        "boundary IoU",
        "Cheng 2021: IoU of the inner bands of 2 % of the image's diagonal; 1 if both masks are empty, 0 if only "
        "one is",
    ),
}
OVERLAPS = ("dice", "iou")  # the figures that every score has, for several classes too
FIGURES = {**DICE, **OVERLAP, **SALIENCY, **CONTOUR}
LOWER_IS_BETTER = ("mae", "hd95", "average_surface_distance")
FRAMES = {
    "false_positives_per_frame": Figure(
        "false positives per frame",
        "on frames whose mask is empty: patches of connected pixels (eight neighbours) at threshold {threshold}",
    ),
    "frames_with_false_positives": Figure(
        "frames with false positives",
        "share of the frames with an empty mask that have at least one predicted pixel at threshold {threshold}",
    ),
}
CONFIDENCE = {
    "expected_calibration_error": Figure(
        "expected calibration error",
        "over the pixels of all images together, in 10 bins of equal width: mean distance between the mean probability "
        "in a pixel's bin and the share of foreground in it; it is small because most pixels are easy background",
    )
}


def conventions(*, threshold: float, tolerance: float) -> dict[str, str]:
    """The convention of each figure, in words."""
    return {
        name: figure.convention.format(threshold=f"{threshold:g}", tolerance=f"{tolerance:g}")
        for name, figure in {**FIGURES, **FRAMES, **CONFIDENCE}.items()
    }
