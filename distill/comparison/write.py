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
Dice is averaged over images, then over seeds; the seed spread is the standard deviation over seeds (n - 1). Differences
are to the first arm, in percentage points of Dice. The interval over images covers the choice of test images (bootstrap
of the differences averaged over seeds; images of one sequence are drawn together; none for fewer than {LEAST_GROUPS}
groups). The interval over seeds covers the training runs (t-interval). p comes from one model of arms, seeds and images
crossed, corrected for all tests in this table (Holm). An arm helps or hurts if p is below 0.05 and the interval over
images excludes 0. Otherwise there is no evidence of a difference, which is not evidence of no effect. A single seed
gives no verdict.
"""


@dataclass(frozen=True)
class Extracted:
    """The teachers' part in a comparison.

    Attributes:
        forwards: number of images that went through a teacher in this call.
        views: folder of each cache -> number of views in it; a teacher ran once for each.
    """

    forwards: int
    views: Mapping[str, int]

    def text(self) -> str:
        """A line for the end of the table."""
        views = ", ".join(f"{count:,} ({name})" for name, count in self.views.items())
        learned = f"Views on which the distilled runs are trained, each extracted once by its teacher: {views}. "
        return f"{learned if views else ''}In the last call, {self.forwards} images went through a teacher."


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
        extracted: the views on which the runs were trained; None if only their scores are known.
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
    """The table of a comparison, with an explanation."""
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
    """The table of frames without foreground; empty if no test set has such frames."""
    rows = [row for row in comparison.rows if row.empty]
    if not rows:
        return []
    return [
        "Frames without foreground, mean over seeds and [range]; a false alarm is any predicted foreground pixel:",
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
    """`0.912 [0.887, 0.938]` of one figure per seed; the figure alone for a single seed."""
    if not values:
        return ""
    spread = f" [{min(values):.3f}, {max(values):.3f}]" if len(values) > 1 else ""
    return f"{sum(values) / len(values):.3f}{spread}"


def table_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The lines of a Markdown table, without columns that are empty in every row; bars in cells become slashes."""
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [names, ["---"] * len(names), *([row[name].replace("|", "/") for name in names] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def cells_of(row: Row, *, several: bool) -> dict[str, str]:
    """The cells of a row by column; the seed spread is given only for `several` seeds."""
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
    """An interval in percentage points of Dice, signed; empty if there is none."""
    return f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else ""


def tuning_lines(comparison: Comparison) -> list[str]:
    """The lines on the validation figure of every arm's settings, the chosen one in bold; empty without a sweep."""
    if not comparison.tuning:
        return []
    figure = "Dice" if comparison.select == "dice" else comparison.select
    rows = []
    for arm, student, figures in comparison.tuning:
        best = best_of(figures, comparison.select)
        tried = {name: f"**{value:.3f}**" if name == best else f"{value:.3f}" for name, value in figures.items()}
        rows.append({"arm": arm, "student": student, **tried})
    return [
        f"Validation {figure} of each setting tried with seed {comparison.seeds[0]}; each arm uses its best, in bold:",
        "",
        *table_of(rows),
        "",
    ]
