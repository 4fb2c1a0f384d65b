"""The report of a cache as a picture: energy and bytes by band, and bytes compared with raw features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cache_report.rate_distortion import Rate
from distill.cache_report.report import CacheReport, MapReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"low": "#0f766e", "high": "#5eb5a8", "not coded": "#d5dbe1", "index": "#d5dbe1"}
GREY = "#52606d"
RAW = "#9aa5b1"
WIDTH = 10.5  # inches


def plot(found: CacheReport, path: Path) -> None:
    """Writes a PNG: for each map, shares of energy and bytes by band, and its bytes beside those of raw features."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 1.5 + 1.1 * len(found.maps)), layout="constrained")
    shares, sizes = figure.subplots(1, 2, width_ratios=(1.1, 1))
    for place, map_ in enumerate(found.maps):
        draw_shares(shares, -place, map_)
        draw_sizes(sizes, -place, map_)
    ticks = [
        (-place + offset, what)
        for place, _ in enumerate(found.maps)
        for offset, what in ((0.18, "energy"), (-0.18, "bytes"))
    ]
    shares.set_yticks([place for place, _ in ticks], [what for _, what in ticks], fontsize=8)
    shares.set_xlim(0, 1)
    shares.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    shares.set_title("share of each band, %", fontsize=10, loc="left")
    handles = [shares.barh(0, 0, color=COLOURS[name]) for name in ("low", "high", "not coded")]
    shares.legend(handles, ["low", "high", "not coded, or index"], ncols=3, fontsize=8, frameon=False,
                  loc="upper center", bbox_to_anchor=(0.5, -0.1))  # fmt: skip
    sizes.set_yticks([-place for place, _ in enumerate(found.maps)], [])
    sizes.set_xscale("log")
    sizes.xaxis.set_major_formatter(lambda count, _: short(count))
    sizes.tick_params(labelsize=8)
    sizes.margins(x=0.1)
    sizes.set_title("bytes per record", fontsize=10, loc="left")
    sizes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    for axes in (shares, sizes):
        axes.set_ylim(0.55 - len(found.maps), 0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
        axes.set_axisbelow(True)
    title = f"{found.folder}: {found.records:,} records, fidelity {found.asked:g}"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", parse_math=False)
    figure.savefig(path, dpi=150)


def draw_shares(axes: Axes, place: float, map_: MapReport) -> None:
    """Draws two stacked bars around `place`, energy and bytes by band; shares of 4 % or more are labelled."""
    bytes_ = {name: part / map_.total for name, part in map_.bytes.items()}
    axes.text(0, place + 0.38, map_.name, fontsize=9, weight="bold", parse_math=False)
    for offset, parts in ((0.18, map_.energy), (-0.18, bytes_)):
        left = 0.0
        for name, share in parts.items():
            axes.barh(place + offset, share, left=left, height=0.3, color=COLOURS[name])
            if share >= 0.04:
                colour = "white" if name == "low" else "#1f2933"
                axes.text(left + share / 2, place + offset, f"{100 * share:.0f}", color=colour, fontsize=8,
                          ha="center", va="center")  # fmt: skip
            left += share


def draw_sizes(axes: Axes, place: float, map_: MapReport) -> None:
    """Draws points at `place` for raw features, the code and the reference, labelled with their bytes."""
    axes.hlines(place, map_.reference, map_.raw["fp32"], color="#e4e7eb", linewidth=2, zorder=1)
    points = {**map_.raw, "code": map_.total, "reference": map_.reference}
    for name, count in points.items():
        colour = {"code": COLOURS["low"], "reference": "white"}.get(name, RAW)
        axes.scatter(count, place, s=44, color=colour, edgecolor=GREY if name == "reference" else colour, zorder=2)
        above = name != "reference"
        axes.annotate(f"{name}\n{short(count)}", (count, place), (0, 7 if above else -7), textcoords="offset points",
                      ha="center", va="bottom" if above else "top", fontsize=7.5, color=GREY)  # fmt: skip


def short(count: float) -> str:
    """A number of bytes in short form: `860 B`, `7.6 kB`, `1.2 MB`."""
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


WAYS = {
    "code": ("#0f766e", "o"),
    "PCA only": ("#c2410c", "s"),
    "DCT only": ("#6d4aa5", "^"),
    "integers": ("#52606d", "D"),
    "fp16": ("#9aa5b1", "X"),
    "fp32": ("#9aa5b1", "P"),
}


def plot_rates(found: Sequence[Rate], path: Path, *, title: str) -> None:
    """Writes a PNG: bytes against cosine, one panel per map, one line per way to store it."""
    from matplotlib.figure import Figure

    maps = list(dict.fromkeys(rate.map for rate in found))
    figure = Figure(figsize=(1 + 3.6 * len(maps), 3.9), layout="constrained")
    panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, maps, strict=True):
        for way, (colour, marker) in WAYS.items():
            points = sorted((rate.bytes, rate.cosine) for rate in found if (rate.map, rate.way) == (name, way))
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, linewidth=1.4, label=way)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda count, _: short(count))
        axes.set_ylim(0, 1.03)
        axes.set_title(name, fontsize=10, parse_math=False)
        axes.set_xlabel("bytes per record", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(color="#e4e7eb", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("cosine, centred and scaled", fontsize=9)
    panels[0].legend(fontsize=8, frameon=False, loc="lower right")
    figure.suptitle(title, fontsize=11, parse_math=False)
    figure.savefig(path, dpi=150)
