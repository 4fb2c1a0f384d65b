"""A comparison's files: compare.json with every figure, compare.md with the table, compare.png, scores.csv."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.comparison.plot import plot
from distill.comparison.result import CONTROL, Comparison, Key, Row
from distill.comparison.runs import best_of
from distill.comparison.scores_csv import write_scores
from distill.comparison.statistics import Interval
from distill.evaluation.predictions_csv import Score
from distill.metrics.bootstrap import LEAST_GROUPS
from distill.runtime.io import write_json, write_text

READING = f"""\
Dice is the mean over images, then over seeds; the spread its standard deviation over seeds (n - 1). Differences are in
percentage points of Dice. Over images: would other test images say the same (bootstrap of the seeds' mean differences;
images of one sequence are drawn together; none from fewer than {LEAST_GROUPS} groups)? Over seeds: would other
trainings (t-interval)? p: one model of arms, seeds and images crossed, corrected for all that is tested in this table
(Holm). An arm helps, or hurts, where p is under 0.05 and the interval over images leaves 0 out; else there is no
evidence, which is not evidence of no effect. A single seed gives no verdict.
"""


@dataclass(frozen=True)
class Extracted:
    """The teachers' part in a comparison.

    Attributes:
        forwards: images that went through a teacher in this call.
        views: folder of each cache -> views that it holds, for each of which a teacher ran once.
    """

    forwards: int
    views: Mapping[str, int]

    def text(self) -> str:
        """A line for the end of the table."""
        views = ", ".join(f"{count:,} ({name})" for name, count in self.views.items())
        learned = f"Views that the distilled runs are trained on, each extracted once by its teacher: {views}. "
        return f"{learned if views else ''}In the last call {self.forwards} images went through a teacher."


def write(
    comparison: Comparison,
    scores: Mapping[Key, Sequence[Score]],
    folder: Path,
    *,
    title: str,
    extracted: Extracted | None = None,
) -> str:
    """Writes compare.json, compare.md, compare.png and scores.csv, and returns the text of compare.md.

    Args:
        comparison: the result.
        scores: every image's figures, of every run.
        folder: for the four files.
        title: of table and picture.
        extracted: what the runs were trained on; None where only their scores are known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cached = {} if extracted is None else {
        "teacher_forwards": extracted.forwards, "cached_views": dict(extracted.views)
    }  # fmt: skip
    write_json(folder / "compare.json", {**cached, **dataclasses.asdict(comparison)})
    text = markdown(comparison, title=title) + ("" if extracted is None else f"\n{extracted.text()}\n")
    write_text(folder / "compare.md", text)
    write_scores(folder / "scores.csv", scores)
    plot(comparison, folder / "compare.png", title=title)
    return text


def markdown(comparison: Comparison, *, title: str) -> str:
    """The table of a comparison, and how to read it."""
    count = len(comparison.seeds)
    trained = f", {', '.join(map(str, comparison.steps))} steps each" if comparison.steps else ""
    lines = [
        f"### {title}: {count} seed{'s' * (count != 1)}{trained}",
        "",
        *table_of([cells_of(row, several=count > 1) for row in comparison.rows]),
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
        *table_of(
            [
                {
                    "data set": row.dataset,
                    "student": row.student,
                    "arm": row.label,
                    "frames without": f"{row.empty}",
                    "with a false alarm": mean_and_range(row.false_alarms),
                    "Dice of the others": mean_and_range(row.dice_of_others),
                }
                for row in rows
            ]
        ),
        "",
    ]


def mean_and_range(values: Sequence[float]) -> str:
    """`0.912 [0.887, 0.938]` of figures one a seed; of one seed the figure alone."""
    if not values:
        return ""
    spread = f" [{min(values):.3f}, {max(values):.3f}]" if len(values) > 1 else ""
    return f"{sum(values) / len(values):.3f}{spread}"


def table_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The lines of a table of equal columns, without those that are empty in every row; a bar would end a cell."""
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [names, ["---"] * len(names), *([row[name].replace("|", "/") for name in names] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def cells_of(row: Row, *, several: bool) -> dict[str, str]:
    """Column -> text of a row of the table; `several` seeds have a spread."""
    of = f" in {row.sequences} sequences" if row.sequences else ""
    few = "" if row.image_interval or row.verdict == CONTROL else f"fewer than {LEAST_GROUPS} groups"
    return {
        "data set": f"{row.dataset} ({row.images}{of})",
        "student": row.student,
        "arm": row.label,
        "Dice": f"{row.mean:.3f}",
        "seed spread": f"{row.spread:.3f}" if several else "",
        "difference (percentage points)": "" if row.difference is None else f"{100 * row.difference:+.1f}",
        "95 % over images": percent(row.image_interval) or few,
        "95 % over seeds": percent(row.seed_interval),
        "p": "" if row.p_value is None else "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}",
        "": row.verdict,
        "training": "" if row.seconds is None else f"{row.seconds:.0f} s",
    }


def percent(interval: Interval | None) -> str:
    """An interval in percentage points of Dice, signed; empty where there is none."""
    return f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else ""


def tuning_lines(comparison: Comparison) -> list[str]:
    """The validation figure of every arm's settings, the chosen one in bold, as lines; none without a sweep."""
    if not comparison.tuning:
        return []
    figure = "Dice" if comparison.select == "dice" else comparison.select
    rows = []
    for arm, student, figures in comparison.tuning:
        best = best_of(figures, comparison.select)
        tried = {name: f"**{value:.3f}**" if name == best else f"{value:.3f}" for name, value in figures.items()}
        rows.append({"arm": arm, "student": student, **tried})
    return [
        f"Validation {figure} of what every arm tried with seed {comparison.seeds[0]}; the best, in bold, was taken:",
        "",
        *table_of(rows),
        "",
    ]
