"""Charts as inline SVG: figures over steps, Dice against size, its distribution, calibration.

Matplotlib draws them in placeholder colours, which the page's style sheet replaces.

A chart therefore follows the reader's light or dark scheme, uses the page's font and stays sharp in print.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.metrics.aggregate import SIZES
from distill.report.inputs import Inputs, share_of, starts_of_equal_parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#0a0101", "#0a0202", "#0a0303", "#0a0404", "#0a0505", "#0a0606")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--rule", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)
}
PANEL = (2.9, 1.9)  # inches; shown about half as large again
STYLE: Any = {  # of matplotlib, whose names of settings are a type of their own
    "svg.fonttype": "none",
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 7.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.color": INK,
    "text.parse_math": False,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.5,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}

BESIDE_TITLE = 3  # the most data sets whose names fit beside the title
SHOWN = 1200  # the most points of a chart, over all data sets
WIDE = (3.6, 2.08)  # inches
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # per cent
BINS = 20


class Chart:
    """A chart in the making: draw on `axes` inside `chart(...)`; `svg` is available afterwards."""

    def __init__(self, axes: Axes) -> None:
        self.axes, self.svg = axes, ""


_numbers = count()


@contextmanager
def chart(title: str, *, alt: str, size: tuple[float, float] = PANEL) -> Iterator[Chart]:
    """Draws one chart.

    Args:
        title: over the chart.
        alt: alternative text, for readers who cannot see the chart.
        size: width and height in inches.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        drawn = Chart(figure.subplots())
        drawn.axes.set_title(title, weight="bold")
        yield drawn
        stream = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(stream, format="svg", metadata=metadata)
    drawn.svg = embedded(stream.getvalue(), alt=alt, prefix=f"chart{next(_numbers)}-")


def embedded(svg: str, *, alt: str, prefix: str) -> str:
    """An SVG document as an element of the page: with a label, the page's colours and font, and unique ids."""
    body = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="([^"]+)"', body)
    assert box is not None
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body[body.index(">") + 1 :], flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}', body).replace("url(#", f"url(#{prefix}")
    body = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]*", r"\1 var(--sans)", body)
    body = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return f'<svg role="img" viewBox="{box[1]}" aria-label="{html.escape(alt)}">{body}'


def lines_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    alt: str,
    spans: Sequence[tuple[str, float, float]] = (),
    mark: tuple[float, float] | None = None,
) -> str:
    """Figures over steps, with the stages as labelled intervals.

    Args:
        title: over the chart.
        series: name -> (step, value); a legend is drawn if there is more than one.
        alt: alternative text, for readers who cannot see the chart.
        spans: name, first and last step of each stage.
        mark: step and value of a point worth showing.
    """
    with chart(title, alt=alt) as drawn:
        axes = drawn.axes
        for (name, points), colour in zip(series.items(), SERIES * len(series), strict=False):
            axes.plot(*zip(*points, strict=True), color=colour, label=name, marker="o" if len(points) < 4 else None,
                      markersize=3)  # fmt: skip
        axes.margins(y=0.16)
        axes.set_xlim(
            0, max([stop for *_, stop in spans] or [step for points in series.values() for step, _ in points])
        )
        for name, start, _ in spans:
            if start > 0:
                axes.axvline(start, color=MUTED, linewidth=0.6, dashes=(2, 2))
            if len(spans) > 1:
                note(axes, name, (start, 1), (3, -2), xycoords=("data", "axes fraction"), va="top", color=MUTED)
        if mark is not None:
            axes.scatter(*mark, s=20, color=PAPER, edgecolor=SERIES[0], linewidth=1.4, zorder=3, clip_on=False)
        if len(series) > 1:
            axes.legend(loc="best")
        axes.set_xlabel("step")
    return drawn.svg


def note(axes: Axes, words: str, place: tuple[float, float], offset: tuple[float, float], **how: Any) -> None:  # noqa: ANN401
    """Writes small text beside a place, without shrinking the axes."""
    axes.annotate(words, place, offset, textcoords="offset points", fontsize=6.5, **how).set_in_layout(False)


def size_chart(inputs: Inputs) -> str:
    """Dice of each image against the share that its mask covers, with the mean for each size."""
    parts = inputs.rows
    limit = max(1, SHOWN // max(1, len(parts)))
    points: dict[str, np.ndarray] = {}
    for name, rows in parts.items():
        pairs = np.array([(100 * share_of(row), row.dice) for row in starts_of_equal_parts(rows, limit)])
        points[name] = pairs[pairs[:, 0] > 0]
    told = [
        f"{name}: " + ", ".join(f"{size} {figures['dice']['mean']:.2f}" for size, figures in entry["by_size"].items())
        for name, entry in inputs.metrics["datasets"].items()
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
            draw_means(drawn.axes, inputs.metrics["datasets"].get(name, {}), limits, colour)
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
    """Draws a line at the mean Dice of each size."""
    ends = [limits[0], *(100 * share for share in list(SIZES.values())[:-1]), limits[1]]
    for number, size in enumerate(SIZES):
        if size in entry.get("by_size", {}):
            mean = entry["by_size"][size]["dice"]["mean"]
            axes.hlines(mean, ends[number], ends[number + 1], color=colour, linewidth=1.8)


def spread_chart(inputs: Inputs) -> str:
    """A histogram of Dice: the mean alone hides images that were missed altogether."""
    parts = {name: np.array([row.dice for row in rows]) for name, rows in inputs.rows.items()}
    told = [f"{name}: {100 * np.mean(values < 0.1):.0f} % of images below 0.1" for name, values in parts.items()]
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


def calibration_chart(inputs: Inputs) -> str | None:
    """The share of true pixels against the predicted probability; None if an older evaluation lacks it."""
    parts = {name: entry["confidence"] for name, entry in inputs.metrics["datasets"].items() if "confidence" in entry}
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
