"""Scores of a folder of predictions, in all conventions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.evaluation.folder_pairs import mask_threshold, pair, prediction_scale, read_entries, settle
from distill.metrics.aggregate import SIZES, summarise_empty, summarise_set, summarise_sizes
from distill.metrics.names import conventions
from distill.metrics.per_image import ImageScore, score_everything
from distill.metrics.score_table import ScoreTable
from distill.runtime.issues import several
from distill.runtime.progress import progress


def score_folders(
    predictions: Path, masks: Path, *, threshold: float, tolerance: float, bootstrap: int, skip_bad: bool = False
) -> dict[str, Any]:
    """Scores a folder of predictions against a folder of masks.

    Files are paired by stem. Grey values over 255 are probabilities; if no prediction exceeds level 1, predictions are
    taken as masks of 0 and 1. Masks are foreground from level 128 on, or from 1 if no mask exceeds level 1. A
    prediction is resized to the size of its mask if they differ.

    Args:
        predictions: folder of probabilities or masks.
        masks: folder of masks.
        threshold: the probability from which a pixel is foreground.
        tolerance: of surface Dice, in pixels.
        bootstrap: resamples for the intervals.
        skip_bad: whether files that cannot be paired or read are left out.

    Returns:
        {"images", "resized", "level_of_one", "left_out", "threshold", "tolerance", "conventions", "mean": {figure:
        {"mean", "low", "high"}} (mean only for few images), "by_size": {size: {"images", figure: ...}},
        "size_limits", "empty_masks": {"images", ...}, "per_image": {stem: {figure: value}}}

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: files cannot be paired or read (unless `skip_bad`), or masks have several classes.
    """
    entries, left_out = pair(predictions, masks, skip_bad=skip_bad)
    scores = ScoreTable(len(entries))
    figures: dict[str, dict[str, float]] = {}
    resized = 0
    level = mask_threshold([entry.mask for entry in entries])
    scale = prediction_scale([entry.prediction for entry in entries])
    readings = progress(read_entries(entries, threshold=level, scale=scale), what="score", total=len(entries))
    for entry, reading in zip(entries, readings, strict=True):
        if isinstance(reading, str):
            left_out.append(reading)
            continue
        resized += reading.resized
        score = score_everything(reading.probability, reading.mask, threshold=threshold, tolerance=tolerance)
        scores.add(score)
        figures[entry.stem] = per_image(score)
    settle(left_out, skip_bad=skip_bad)
    if not figures:
        raise ValueError(f"none of {several(len(entries), 'pair')} can be read; the first: {left_out[-len(entries)]}")
    return {
        "images": len(scores),
        "resized": resized,
        "level_of_one": scale,
        "left_out": left_out,
        "threshold": threshold,
        "tolerance": tolerance,
        "conventions": conventions(threshold=threshold, tolerance=tolerance),
        "mean": summarise_set(scores, resamples=bootstrap),
        "by_size": summarise_sizes(scores, resamples=bootstrap),
        "size_limits": SIZES,
        "empty_masks": summarise_empty(scores, resamples=bootstrap),
        "per_image": figures,
    }


def per_image(score: ImageScore) -> dict[str, float]:
    """The entry of one image: its figures, pixel counts, and the share of the image that its mask covers."""
    return {**score.figures, **dict(zip(("tp", "fp", "fn", "tn"), score.counts, strict=True)), "share": score.share}
