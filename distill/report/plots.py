"""The test images as charts: Dice against size, how Dice is distributed, whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.metrics.aggregate import SIZES
from distill.report.charts import GRID, MUTED, PANEL, SERIES, chart
from distill.report.inputs import Material, share_of, spread

BESIDE_TITLE = 3  # data sets whose names have room in the line of the title
SHOWN = 1200  # points of a chart at most, over all data sets
WIDE = (3.6, 2.08)  # inches
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # per cent
BINS = 20


def size_chart(material: Material) -> str:
    """Dice of each image against the share of it that its mask covers, and the mean of each size."""
    parts = material.rows
    limit = max(1, SHOWN // max(1, len(parts)))
    points: dict[str, np.ndarray] = {}
    for name, rows in parts.items():
        pairs = np.array([(100 * share_of(row), row.dice) for row in spread(rows, limit)])
        points[name] = pairs[pairs[:, 0] > 0]
    told = [
        f"{name}: " + ", ".join(f"{size} {figures['dice']['mean']:.2f}" for size, figures in entry["by_size"].items())
        for name, entry in material.metrics["datasets"].items()
        if "by_size" in entry
    ]
    alt = "Dice of each test image against the share of the image that its mask covers. Means: " + "; ".join(told)
    with chart("Dice against size", alt=alt, size=WIDE) as drawn:
        axes = drawn.axes
        axes.set_xscale("log")
        for (name, pairs), colour in zip(points.items(), SERIES * len(points), strict=False):
            axes.scatter(pairs[:, 0], pairs[:, 1], s=9, color=colour, alpha=0.45, linewidth=0, label=name)
        limits = axes.get_xlim()
        for (name, _), colour in zip(points.items(), SERIES * len(points), strict=False):
            draw_means(drawn.axes, material.metrics["datasets"].get(name, {}), limits, colour)
        for share in list(SIZES.values())[:-1]:
            axes.axvline(100 * share, color=MUTED, linewidth=0.6, dashes=(2, 2))
        axes.set_xlim(limits)
        axes.set_ylim(-0.04, 1.04)
        axes.set_xticks([tick for tick in TICKS if limits[0] <= tick <= limits[1]], minor=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        axes.xaxis.set_minor_formatter(lambda *_: "")
        axes.set_xlabel("share of the image that the mask covers")
        axes.set_ylabel("Dice")
        if 1 < len(points) <= BESIDE_TITLE:
            axes.legend(loc="lower right", bbox_to_anchor=(1.01, 1), ncols=len(points), markerscale=2, columnspacing=1)
        elif len(points) > 1:
            axes.legend(loc="lower right", markerscale=2)
    return drawn.svg


def draw_means(axes: Any, entry: Mapping[str, Any], limits: tuple[float, float], colour: str) -> None:  # noqa: ANN401
    """A line at the mean Dice of each size."""
    ends = [limits[0], *(100 * share for share in list(SIZES.values())[:-1]), limits[1]]
    for number, size in enumerate(SIZES):
        if size in entry.get("by_size", {}):
            mean = entry["by_size"][size]["dice"]["mean"]
            axes.hlines(mean, ends[number], ends[number + 1], color=colour, linewidth=1.8)


def spread_chart(material: Material) -> str:
    """How many images score how much: the mean alone hides those that were missed altogether."""
    parts = {name: np.array([row.dice for row in rows]) for name, rows in material.rows.items()}
    told = [f"{name}: {100 * np.mean(values < 0.1):.0f} % of images under 0.1" for name, values in parts.items()]
    with chart("distribution of Dice", alt="Histogram of Dice. " + "; ".join(told)) as drawn:
        for (name, values), colour in zip(parts.items(), SERIES * len(parts), strict=False):
            share, edges = np.histogram(values, bins=BINS, range=(0, 1))
            drawn.axes.stairs(100 * share / len(values), edges, color=colour, linewidth=1.4, label=name)
        drawn.axes.set_xlabel("Dice")
        drawn.axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        drawn.axes.set_xlim(0, 1)
        if len(parts) > 1:
            drawn.axes.legend(loc="best")
    return drawn.svg


def calibration_chart(material: Material) -> str | None:
    """The share of true pixels against the probability given; None where an older evaluation did not take it."""
    parts = {name: entry["confidence"] for name, entry in material.metrics["datasets"].items() if "confidence" in entry}
    if not parts:
        return None
    told = [f"{name}: error {entry['expected_calibration_error']['mean']:.3f}" for name, entry in parts.items()]
    with chart("calibration", alt="Share of true pixels against probability. " + "; ".join(told), size=PANEL) as drawn:
        drawn.axes.plot((0, 1), (0, 1), color=GRID, linewidth=1.2)
        for (name, entry), colour in zip(parts.items(), SERIES * len(parts), strict=False):
            bins = entry["bins"]
            pairs = [(x, y) for x, y in zip(bins["said"], bins["true"], strict=True) if x is not None]
            drawn.axes.plot(*zip(*pairs, strict=True), color=colour, marker="o", markersize=3, label=name)
        drawn.axes.set_xlim(0, 1)
        drawn.axes.set_ylim(0, 1)
        drawn.axes.set_xlabel("mean probability of the bin")
        drawn.axes.set_ylabel("share of true pixels")
        if len(parts) > 1:
            drawn.axes.legend(loc="upper left")
    return drawn.svg
