"""Training as charts: validation, every term of the loss, the variance of projections, the learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from distill.config.registry import LOSSES
from distill.report.charts import lines_chart
from distill.report.inputs import Inputs

MEANINGS = {
    "segment": "the student's mask against the ground truth: cross-entropy and soft Dice loss",
    "cross_entropy": "the student's mask against the ground truth: cross-entropy only",
    "dice": "the student's mask against the ground truth: soft Dice loss only",
    "boundary": "cross-entropy against the ground truth, half on the contour and half on the rest",
    "structure": "cross-entropy and soft IoU against the ground truth, weighted towards contours",
    "imitate_mask": "the student's mask against the teacher's soft mask",
    "imitate_mask_mse": "the student's mask against the teacher's soft mask: mean squared error of probabilities",
    "imitate_low": "projected features against the teacher's low band",
    "imitate_high": "projected features against the teacher's high band",
    "imitate_features": "projected features against the teacher's, both bands",
    "imitate_mse": "projected features against the teacher's: mean squared error",
    "imitate_low_mse": "projected features against the teacher's: mean squared error, low band only",
    "imitate_high_mse": "projected features against the teacher's: mean squared error, high band only",
    "mean_teacher": "on images without a mask, the student's prediction against that of its moving average",
    "weight_norm": "norms of the student's weights",
}

Points = list[tuple[float, float]]


class Panel(NamedTuple):
    """A chart and the words under it."""

    svg: str
    caption: str


def curves(inputs: Inputs) -> list[Panel]:
    """The panels of a training; empty if nothing was logged."""
    spans = stages_of(inputs)
    panels = []
    if points := list(series_of(inputs, "validation_dice")):
        kept = inputs.training.get("best_step") if inputs.training else None
        best = next((point for point in points if point[0] == kept), max(points, key=lambda point: point[1]))
        told = f"kept {best[1]:.3f} at step {best[0]:.0f}"
        alt = f"Validation Dice from {points[0][1]:.3f} to {points[-1][1]:.3f}, {told}"
        images = len(inputs.run.validation)
        svg = lines_chart(f"validation Dice, {told}", {"validation": points}, alt=alt, spans=spans, mark=best)
        panels.append(Panel(svg, f"mean over {images} validation images; the marked step is the one kept"))
    for name in ("loss", *LOSSES):
        if points := list(series_of(inputs, name)):
            alt = f"{name} from {points[0][1]:.3g} to {points[-1][1]:.3g} over {len(points)} entries"
            svg = lines_chart(name, {name: points}, alt=alt, spans=spans)
            panels.append(Panel(svg, "all terms, weighted" if name == "loss" else describe(inputs, name)))
    if points := list(series_of(inputs, "imitate_factor")):
        alt = f"Factor on imitation from {points[0][1]:.3g} to {points[-1][1]:.3g}"
        svg = lines_chart("factor on imitation", {"factor": points}, alt=alt, spans=spans)
        panels.append(Panel(svg, "which holds its gradient at imitate.gradient_share of that of the other terms"))
    if spreads := list(ratios_of(inputs)):
        ends = ", ".join(f"{name} {points[-1][1]:.2f}" for name, points in spreads)
        svg = lines_chart("variance of projections", dict(spreads), alt=f"At the end: {ends}", spans=spans)
        panels.append(Panel(svg, "as a share of the target's variance; near 0, the projection is the same everywhere"))
    if points := list(series_of(inputs, "learning_rate")):
        alt = f"Learning rate, at most {max(value for _, value in points):.2g}"
        panels.append(Panel(lines_chart("learning rate", {"rate": points}, alt=alt, spans=spans), "as scheduled"))
    return panels


def series_of(inputs: Inputs, name: str) -> Iterator[tuple[float, float]]:
    """(step, value) of one quantity in the log."""
    return ((line["step"], line[name]) for line in inputs.log if name in line)


def stages_of(inputs: Inputs) -> list[tuple[str, float, float]]:
    """Name, first and last step of each stage, as logged."""
    found: dict[str, tuple[float, float]] = {}
    before = 0.0
    for line in inputs.log:
        if line["stage"] not in found:
            found[line["stage"]] = (before, line["step"])
        found[line["stage"]] = (found[line["stage"]][0], line["step"])
        before = line["step"]
    return [(name, start, stop) for name, (start, stop) in found.items()]


def ratios_of(inputs: Inputs) -> Iterator[tuple[str, Points]]:
    """Target -> (step, variance of the projection over that of the target)."""
    lines = [line for line in inputs.log if "spread" in line]
    for target in dict.fromkeys(name for line in lines for name in line["spread"]):
        pairs = [(line["step"], line["spread"][target]) for line in lines if target in line["spread"]]
        points = [(step, one["variance"] / one["target_variance"]) for step, one in pairs if one["target_variance"]]
        if points:
            yield short(target), points


def short(target: str) -> str:
    """`sam/neck/low/16` as `neck low, 1/16`."""
    _, name, band, stride = target.rsplit("/", 3)
    return f"{name} {band}, 1/{stride}"


def describe(inputs: Inputs, term: str) -> str:
    """The meaning of a loss term, and its weight in each stage."""
    stages: dict[str, Any] = {name: stage for name, stage in inputs.run.recipe.stages.items() if stage.runs}
    weights = {name: stage.losses.get(term, 0) for name, stage in stages.items()}
    told = ", ".join(f"{weight:g} in {name}" for name, weight in weights.items() if weight)
    return f"{MEANINGS.get(term, 'a term of the loss')}; weight {told}" if told else MEANINGS.get(term, "")
