"""A comparison as a picture: one point per seed on every test set, and validation Dice over the steps."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from distill.comparison.result import Comparison

LEAST_SPAN = 0.04  # of a Dice axis, so that a negligible difference does not look large
LINE = "#9aa5b1"
FEW = 4  # the most arms whose names fit below their points; with more, names are rotated
COLOURS = ("#52606d", "#0f766e", "#b45309", "#7c3aed", "#be123c", "#0369a1", "#4d7c0f", "#a21caf", "#854d0e", "#1e3a8a")


def plot(comparison: Comparison, path: Path, *, title: str) -> None:
    """Writes a PNG: the mean Dice of every seed, with lines between runs of the same seed, and validation curves.

    The curves tell a gain from a head start: an arm that only learns sooner meets the control at the end.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((row.dataset, row.student) for row in comparison.rows))
    students = list(dict.fromkeys(curve.student for curve in comparison.validation))
    count, arms = len(panels) + len(students), len({row.arm for row in comparison.rows})
    size = (1.2 + max(3.0, 0.55 * arms) * count, 3.6 if arms <= FEW else 4.2)
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():  # dollar signs do not begin a formula
        warnings.filterwarnings("ignore", message="Glyph")  # letters that the font lacks show as boxes
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, count, squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=False):
            draw_seeds(axis, comparison, *panel)
        for axis, student in zip(axes[0][len(panels) :], students, strict=True):
            draw_curves(axis, comparison, student)
        axes[0][0].set_ylabel("Dice, mean over images")
        figure.suptitle(f"{title}: one point per seed, bar: mean over seeds", fontsize=11)
        figure.savefig(path, dpi=150)


def draw_seeds(axis: Any, comparison: Comparison, dataset: str, student: str) -> None:  # noqa: ANN401
    """Draws the arms of one student on one data set."""
    rows = [row for row in comparison.rows if (row.dataset, row.student) == (dataset, student)]
    places = range(len(rows))
    for index in range(len(comparison.seeds)):
        axis.plot(places, [row.dice[index] for row in rows], color=LINE, linewidth=1, zorder=1)
    for place, row in zip(places, rows, strict=True):
        colour = COLOURS[place % len(COLOURS)]
        axis.scatter([place] * len(row.dice), row.dice, s=26, color=colour, zorder=2)
        axis.hlines(row.mean, place - 0.22, place + 0.22, color=colour, linewidth=2.5, zorder=3)
        if row.difference is not None:
            at = (place, max(row.dice))
            axis.annotate(f"{100 * row.difference:+.1f}", at, (0, 6), textcoords="offset points", ha="center")
    if len(rows) <= FEW:
        axis.set_xticks(list(places), [re.sub("[_ ]", "\n", row.arm) for row in rows])
    else:
        names = [row.arm.replace("_", " ") for row in rows]
        axis.set_xticks(list(places), names, rotation=30, ha="right", rotation_mode="anchor")
    axis.set_xlim(-0.6, len(rows) - 0.4)
    axis.margins(y=0.2)
    low, high = axis.get_ylim()
    spare = max(0.0, LEAST_SPAN - (high - low)) / 2
    axis.set_ylim(low - spare, high + spare)
    dress(axis, ", ".join(filter(None, (f"{dataset} ({rows[0].images})", student))))


def draw_curves(axis: Any, comparison: Comparison, student: str) -> None:  # noqa: ANN401
    """Draws the validation Dice of every arm over the steps: mean and range over seeds."""
    curves = [curve for curve in comparison.validation if curve.student == student]
    for number, curve in enumerate(curves):
        dice, colour = np.array(curve.dice), COLOURS[number % len(COLOURS)]
        axis.fill_between(curve.steps, dice.min(axis=0), dice.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        marker = "o" if len(curve.steps) == 1 else None  # a single point makes no line
        axis.plot(curve.steps, dice.mean(axis=0), color=colour, linewidth=1.6, label=curve.arm, marker=marker)
    settled = [value for c in curves for line in c.dice for value in line[len(line) // 4 :]]
    axis.set_ylim(min(settled) - 0.02, max(settled) + 0.02)  # the first quarter is steep and would flatten the rest
    axis.legend(fontsize=8, frameon=False, loc="best")
    axis.set_xlabel("step")
    axis.locator_params(axis="x", integer=True)
    dress(axis, f"validation, {student}")


def dress(axis: Any, title: str) -> None:  # noqa: ANN401
    """Sets the title and removes needless lines."""
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axis.set_axisbelow(True)
