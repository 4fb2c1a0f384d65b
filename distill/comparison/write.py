"""A comparison's files: compare.json with every figure, compare.md with the table, compare.png."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.comparison.plot import plot
from distill.comparison.result import CONTROL, Comparison, Row
from distill.comparison.runs import best_of
from distill.comparison.statistics import Interval
from distill.metrics.bootstrap import LEAST_GROUPS
from distill.runtime.io import write_json, write_text

READING = f"""\
Dice is the mean over images, then over seeds; the spread its standard deviation over seeds (n - 1). Differences are in
percentage points of Dice. Over images: would other test images say the same (bootstrap of the seeds' mean differences;
images of one sequence are drawn together; none from fewer than {LEAST_GROUPS} groups)? Over seeds: would other
trainings (t-interval)? p: one model of arms, seeds and images crossed, corrected for all that is tested in this table
(Holm). An arm helps, or hurts, where p is under 0.05 and the interval over images leaves 0 out; else, and for a single
seed, there is no evidence, which is not evidence of no effect.
"""


def write(comparison: Comparison, folder: Path, *, title: str, forwards: int, cached: Mapping[str, int]) -> str:
    """Writes compare.json, compare.md and compare.png, and returns the text of compare.md.

    Args:
        comparison: the result.
        folder: for the three files.
        title: of table and picture.
        forwards: images that went through a teacher in this call.
        cached: folder of each cache -> views that it holds, for each of which a teacher ran once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entry: dict[str, Any] = {
        "teacher_forwards": forwards,
        "cached_views": dict(cached),
        **dataclasses.asdict(comparison),
    }
    write_json(folder / "compare.json", entry)
    views = ", ".join(f"{count:,} ({name})" for name, count in cached.items())
    learned = (
        f"Views that the distilled runs are trained on, each extracted once by its teacher: {views}. " if views else ""
    )
    text = f"{markdown(comparison, title=title)}\n{learned}In the last call {forwards} images went through a teacher.\n"
    write_text(folder / "compare.md", text)
    plot(comparison, folder / "compare.png", title=title)
    return text


def markdown(comparison: Comparison, *, title: str) -> str:
    """The table of a comparison, and how to read it."""
    count = len(comparison.seeds)
    lines = [
        f"### {title}: {count} seed{'s' * (count != 1)}, {', '.join(map(str, comparison.steps))} steps each",
        "",
        "| data set | student | arm | Dice | seed spread | difference (percentage points) | 95 % over images "
        "| 95 % over seeds | p | | training |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(table_line(row, several=count > 1) for row in comparison.rows),
        "",
        f"Dice {comparison.convention}.",
        "",
        READING,
        *(f"The projection collapsed: {one}." for one in comparison.collapsed),
        *empty_lines(comparison),
        *tuning_lines(comparison),
    ]
    return "\n".join(lines)


def empty_lines(comparison: Comparison) -> list[str]:
    """The table of frames without foreground, where a test set has some."""
    rows = [row for row in comparison.rows if row.empty]
    if not rows:
        return []
    return [
        "Frames without foreground apart, mean over seeds and [range]; a false alarm is any predicted pixel:",
        "",
        "| data set | student | arm | frames without | with a false alarm | Dice of the others |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row.dataset} | {row.student} | {row.label} | {row.empty} | {mean_and_range(row.false_alarms)} "
            f"| {mean_and_range(row.dice_of_others)} |"
            for row in rows
        ),
        "",
    ]


def mean_and_range(values: Sequence[float]) -> str:
    """`0.912 [0.887, 0.938]` of figures one a seed; of one seed the figure alone."""
    if not values:
        return ""
    spread = f" [{min(values):.3f}, {max(values):.3f}]" if len(values) > 1 else ""
    return f"{sum(values) / len(values):.3f}{spread}"


def table_line(row: Row, *, several: bool) -> str:
    """A row of the table; `several` seeds have a spread."""
    of = f" in {row.sequences} sequences" if row.sequences else ""
    few = "" if row.image_interval or row.verdict == CONTROL else f"fewer than {LEAST_GROUPS} groups"
    cells = [
        f"{row.dataset} ({row.images}{of})",
        row.student,
        row.label,
        f"{row.mean:.3f}",
        f"{row.spread:.3f}" if several else "",
        "" if row.difference is None else f"{100 * row.difference:+.1f}",
        percent(row.image_interval) or few,
        percent(row.seed_interval),
        "" if row.p_value is None else "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}",
        row.verdict,
        f"{row.seconds:.0f} s",
    ]
    return f"| {' | '.join(cells)} |"


def percent(interval: Interval | None) -> str:
    """An interval in percentage points of Dice, signed; empty where there is none."""
    return f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else ""


def tuning_lines(comparison: Comparison) -> list[str]:
    """The validation figure of every arm's settings, the chosen one in bold, as lines; none without a sweep."""
    if not comparison.tuning:
        return []
    settings = list(comparison.tuning[0][2])
    figure = "Dice" if comparison.select == "dice" else comparison.select
    lines = [
        f"Validation {figure} of what every arm tried with seed {comparison.seeds[0]}; the best, in bold, was taken:",
        "",
        f"| arm | student | {' | '.join(settings)} |",
        f"| --- | --- |{' --- |' * len(settings)}",
    ]
    for arm, student, figures in comparison.tuning:
        best = best_of(figures, comparison.select)
        cells = [f"**{figures[name]:.3f}**" if name == best else f"{figures[name]:.3f}" for name in settings]
        lines.append(f"| {arm} | {student} | {' | '.join(cells)} |")
    return [*lines, ""]
