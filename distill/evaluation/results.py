"""The results of an evaluation: predictions.csv, and its entries in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from distill.evaluation.cost import cost, count_parameters
from distill.evaluation.predictions_csv import PREDICTIONS, SCORES, Score, read_predictions, write_predictions
from distill.metrics.aggregate import (
    summarise_classes,
    summarise_confidence,
    summarise_empty,
    summarise_set,
    summarise_sizes,
)
from distill.metrics.bootstrap import NO_INTERVAL, count_sequences, summary
from distill.metrics.confusion import POOLED, pool
from distill.metrics.names import conventions
from distill.metrics.overlap import CONVENTION, CONVENTION_SEVERAL, THRESHOLD
from distill.metrics.per_image import TOLERANCE
from distill.runs.fingerprint import digest_file
from distill.runs.run import Run
from distill.runs.state_files import read_metrics, update_metrics

DRAWN = "sequences, 10 at least"  # what the bootstrap draws, so that runs scored otherwise are scored again


def scored_with(run: Run) -> dict[str, Any]:
    """The entry `evaluated` of metrics.json: digest of the weights, and how intervals are drawn."""
    return {"weights": digest_file(run.weights), "resamples": run.recipe.evaluate.bootstrap, "drawn": DRAWN}


def write_results(
    run: Run,
    student: nn.Module,
    scores: Mapping[str, Sequence[Score]],
    *,
    teachers: Mapping[str, Any],
) -> None:
    """Writes one line an image into predictions.csv, then the summaries into metrics.json.

    Args:
        run: that was evaluated.
        student: its network.
        scores: of each test data set.
        teachers: the entry of the mask teachers, see `distill.evaluation.mask_teachers`.
    """
    recipe = run.recipe
    digest = write_predictions(run.folder / SCORES, scores)
    update_metrics(
        run,
        **{PREDICTIONS: digest},
        datasets={
            name: summarise(part, resamples=recipe.evaluate.bootstrap, classes=recipe.student.classes)
            for name, part in scores.items()
        },
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
    """The scores of an evaluated run on every test image, with the sequence that each comes from.

    Raises:
        FileNotFoundError: there is no predictions.csv.
        ValueError: it is not the one that was written.
    """
    groups = {(sample.dataset, sample.key): sample.group for sample in run.splits.tested}
    scores = read_predictions(run.folder / SCORES, digest=read_metrics(run).get(PREDICTIONS))
    return [replace(score, group=groups.get((score.dataset, score.key))) for score in scores]


def is_evaluated(run: Run) -> bool:
    """Whether training is complete and its weights have been scored."""
    if not (run.trained.is_file() and run.weights.is_file() and has_scores(run)):
        return False
    return digest_file(run.weights) == read_metrics(run).get("evaluated", {}).get("weights")


def has_scores(run: Run) -> bool:
    """Whether predictions.csv is there, and as it was written."""
    path, digest = run.folder / SCORES, read_metrics(run).get(PREDICTIONS)
    return path.is_file() and digest in (None, digest_file(path))


def summarise(scores: Sequence[Score], *, resamples: int, classes: int = 1) -> dict[str, Any]:
    """The entry of one data set in metrics.json, for a student of so many classes."""
    every = [figures.whole for figures in scores if figures.whole is not None]
    groups = [figures.group for figures in scores]
    entry: dict[str, Any] = {"images": len(scores)}
    if sequences := count_sequences(groups):
        entry["sequences"] = sequences  # drawn whole by the bootstrap
    if every:
        return {
            **entry,
            **summarise_set(every, resamples=resamples),
            "by_size": summarise_sizes(every, resamples=resamples),
            "empty_masks": summarise_empty(every, resamples=resamples),
            "confidence": summarise_confidence(every, resamples=resamples),
        }
    by_class = [figures.classes for figures in scores if figures.classes is not None]
    return {
        **entry,
        "dice": summary([figures.dice for figures in scores], groups=groups, resamples=resamples),
        "iou": summary([figures.iou for figures in scores], groups=groups, resamples=resamples),
        **({"by_class": summarise_classes(by_class, groups=groups, resamples=resamples)} if by_class else {}),
        **({"pooled": pool([one.pairs for one in scores if one.pairs], classes=classes)} if by_class else {}),
    }


def format_scores(figures: Mapping[str, Any]) -> str:
    """`Dice 0.812 [0.780, 0.841], IoU 0.731 [0.700, 0.760] over 100 images`; of few images, that they have none."""
    parts = [f"{title} {format_mean(figures[name])}" for name, title in (("dice", "Dice"), ("iou", "IoU"))]
    if "pooled" in figures:
        parts.append(f"mIoU of all pixels {figures['pooled']['miou']:.3f}")
    few = "" if "low" in figures["dice"] else f" ({NO_INTERVAL})"
    return f"{', '.join(parts)} over {figures['images']} images{few}"


def has_few(datasets: Mapping[str, Any]) -> bool:
    """Whether any data set, or any class of one, has too few images for an interval."""
    parts = [part for entry in datasets.values() for part in (entry, *entry.get("by_class", {}).values())]
    return any("low" not in part["dice"] for part in parts)


def format_mean(figure: Mapping[str, float]) -> str:
    """`0.812 [0.780, 0.841]`; the mean alone where there is no interval."""
    interval = f" [{figure['low']:.3f}, {figure['high']:.3f}]" if "low" in figure else ""
    return f"{figure['mean']:.3f}{interval}"
