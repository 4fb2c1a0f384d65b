"""The results of an evaluation: predictions.csv, and the entries in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from torch import nn

from distill.evaluation.cost import cost, count_parameters
from distill.evaluation.predictions_csv import Score, read_predictions, write_predictions
from distill.evaluation.scored import Scored
from distill.metrics.aggregate import (
    summarise_classes,
    summarise_confidence,
    summarise_empty,
    summarise_set,
    summarise_sizes,
)
from distill.metrics.bootstrap import NO_INTERVAL, count_sequences, format_mean, summary
from distill.metrics.confusion import POOLED, pool
from distill.metrics.names import OVERLAPS, conventions
from distill.metrics.overlap import CONVENTION, CONVENTION_SEVERAL, THRESHOLD
from distill.metrics.per_image import TOLERANCE
from distill.runs.fingerprint import digest_file, digest_of
from distill.runs.run import PREDICTIONS, Run

DRAWN = "sequences, 10 at least"  # what the bootstrap draws; runs scored with another value are scored again


def scored_with(run: Run) -> dict[str, Any]:
    """The entry `evaluated` of metrics.json: the digest of the weights, and the settings of the bootstrap."""
    entry = {"weights": digest_file(run.weights), "resamples": run.recipe.evaluate.bootstrap, "drawn": DRAWN}
    groups = sorted((sample.dataset, sample.key, sample.group) for sample in run.splits.tested if sample.group)
    return {**entry, "groups": digest_of(groups)} if groups else entry


def write_results(run: Run, student: nn.Module, scores: Mapping[str, Scored], *, teachers: Mapping[str, Any]) -> None:
    """Writes one line per image into predictions.csv, then the summaries into metrics.json.

    Args:
        run: the evaluated run.
        student: its network.
        scores: of each test data set.
        teachers: the entry of the mask teachers, see `distill.evaluation.mask_teachers`.
    """
    recipe = run.recipe
    digest = write_predictions(run.predictions, chain.from_iterable(part.lines() for part in scores.values()))
    run.update_metrics(
        **{PREDICTIONS: digest},
        datasets={name: summarise(part, resamples=recipe.evaluate.bootstrap) for name, part in scores.items()},
        student={"parameters": count_parameters(student)}
        if recipe.reads_features
        else cost(student, image_size=recipe.image_size),
        convention=CONVENTION if recipe.student.classes == 1 else CONVENTION_SEVERAL,
        conventions=conventions(threshold=THRESHOLD, tolerance=TOLERANCE)
        | ({"pooled": POOLED} if recipe.student.classes > 1 else {}),
        evaluated=scored_with(run),
        teachers=teachers,
    )


def read_scores(run: Run) -> list[Score]:
    """The scores of an evaluated run on every test image, each with its sequence.

    Raises:
        FileNotFoundError: there is no predictions.csv.
        ValueError: it is not the file that was written.
    """
    groups = {(sample.dataset, sample.key): sample.group for sample in run.splits.tested}
    scores = read_predictions(run.predictions, digest=run.read_metrics().get(PREDICTIONS))
    return [replace(score, group=groups.get((score.dataset, score.key))) for score in scores]


def summarise(scores: Scored, *, resamples: int) -> dict[str, Any]:
    """The entry of one data set in metrics.json."""
    groups = [sample.group for sample in scores.samples]
    entry: dict[str, Any] = {"images": len(scores)}
    if sequences := count_sequences(groups):
        entry["sequences"] = sequences  # drawn whole by the bootstrap
    whole = scores.whole
    if len(whole):
        return {
            **entry,
            **summarise_set(whole, resamples=resamples),
            "by_size": summarise_sizes(whole, resamples=resamples),
            "empty_masks": summarise_empty(whole, resamples=resamples),
            "confidence": summarise_confidence(whole, resamples=resamples),
        }
    for name, values in zip(OVERLAPS, np.ascontiguousarray(scores.overlaps.T), strict=True):
        entry[name] = summary(values, groups=groups, resamples=resamples)
    several = scores.classes
    if len(several):
        entry["by_class"] = summarise_classes(several, resamples=resamples)
        entry["pooled"] = pool(several.pairs, classes=several.classes)
    return entry


def format_scores(figures: Mapping[str, Any]) -> str:
    """`Dice 0.812 [0.780, 0.841], IoU 0.731 [0.700, 0.760] over 100 images`; without intervals for few images.

    If some masks are empty, it adds the Dice of the other frames and the number of empty ones with false positives.
    """
    parts = [f"{title} {format_mean(figures[name])}" for name, title in (("dice", "Dice"), ("iou", "IoU"))]
    if "pooled" in figures:
        parts.append(f"mIoU of all pixels {figures['pooled']['miou']:.3f}")
    few = "" if "low" in figures["dice"] else f" ({NO_INTERVAL})"
    return f"{', '.join(parts)} over {figures['images']} images{few}{format_empty(figures)}"


def format_empty(figures: Mapping[str, Any]) -> str:
    """`; Dice 0.533 on the 144 with foreground, false positives on 74 of the 80 without`; empty if all have some."""
    empty, images = figures.get("empty_masks", {}), figures["images"]
    if not empty.get("images"):
        return ""
    without, alarms = empty["images"], round(empty["frames_with_false_positives"]["mean"] * empty["images"])
    found = figures["dice"]["mean"] * images - (without - alarms)  # an empty frame scores 1 if nothing is predicted
    rest = images - without
    some = f"Dice {found / rest:.3f} on the {rest} with foreground, " if rest else ""
    return f"; {some}false positives on {alarms} of the {without} without"
