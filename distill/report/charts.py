"""Charts as inline SVG: matplotlib draws them in stand-in colours, and the page's style sheet chooses the real ones.

So a chart follows the reader's light or dark scheme, takes the page's font and stays sharp on paper.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

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


class Chart:
    """One chart on its way into the page; `axes` is drawn on inside `chart(...)`, `svg` is there afterwards."""

    def __init__(self, axes: Axes) -> None:
        self.axes, self.svg = axes, ""


_numbers = count()


@contextmanager
def chart(title: str, *, alt: str, size: tuple[float, float] = PANEL) -> Iterator[Chart]:
    """Draws one chart.

    Args:
        title: over the chart.
        alt: what a reader who does not see it is told.
        size: width and height in inches.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        canvas = FigureCanvasSVG(figure)
        drawn = Chart(figure.subplots())
        drawn.axes.set_title(title, weight="bold")
        yield drawn
        stream = io.StringIO()
        canvas.print_svg(stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn.svg = embedded(stream.getvalue(), alt=alt, prefix=f"chart{next(_numbers)}-")


def embedded(svg: str, *, alt: str, prefix: str) -> str:
    """A whole SVG document as an element of the page: named, in the page's colours and font, its ids its own."""
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
    logarithmic: bool = False,
    mark: tuple[float, float] | None = None,
) -> str:
    """Figures over steps, with the stages as labelled intervals.

    Args:
        title: over the chart.
        series: name -> (step, value); a legend is drawn where there is more than one.
        alt: for who does not see it.
        spans: name, first and last step of each stage.
        logarithmic: scale of the values.
        mark: step and value of a point worth showing.
    """
    with chart(title, alt=alt) as drawn:
        axes = drawn.axes
        for (name, points), colour in zip(series.items(), SERIES * len(series), strict=False):
            axes.plot(*zip(*points, strict=True), color=colour, label=name, marker="o" if len(points) < 4 else None,
                      markersize=3)  # fmt: skip
        if logarithmic:
            axes.set_yscale("log")
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
    """Small words beside a place, for which the axes do not shrink."""
    axes.annotate(words, place, offset, textcoords="offset points", fontsize=6.5, **how).set_in_layout(False)
