"""Paired differences between the arms of a comparison: the figures, the words and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.evaluation.predictions_csv import Score
from distill.metrics.bootstrap import bootstrap, count_sequences
from distill.metrics.overlap import CONVENTION

HELPS, HURTS, UNDECIDED = "helps", "hurts", "no evidence of a difference"

READING = """\
Dice is the mean over images, then over seeds; the spread its standard deviation over seeds (n - 1). Over images: would
other test images say the same (bootstrap of the seeds' mean differences; images of one sequence are drawn together)?
Over seeds: would other trainings (t-interval)? An arm helps where both intervals lie above 0, and hurts where both lie
below; else, and for a single seed, there is no evidence, which is not evidence of no effect. Nothing is corrected for
the number of arms.
"""

Key = tuple[str, str, int]  # arm, student, seed


@dataclass(frozen=True)
class Row:
    """One arm of one student on one data set; Dice in [0, 1]."""

    dataset: str
    images: int
    student: str
    arm: str
    dice: tuple[float, ...]  # mean over images, one a seed
    seconds: float  # of training, mean over seeds
    difference: float | None  # to the first arm, mean over seeds and images; None for the first arm itself
    image_interval: tuple[float, float] | None  # 95 %: seeds averaged per image, images (or sequences) bootstrapped
    seed_interval: tuple[float, float] | None  # 95 %: t-interval over the seeds' mean differences
    verdict: str
    network: str = ""  # where an arm trains another one than the student compared
    sequences: int | None = None  # that the images come from, where known; the bootstrap draws them whole

    @property
    def label(self) -> str:
        """The arm, with its network in brackets where that is its own."""
        return f"{self.arm} ({self.network})" if self.network not in ("", self.student) else self.arm

    @property
    def mean(self) -> float:
        """Mean Dice over seeds."""
        return float(np.mean(self.dice))

    @property
    def spread(self) -> float:
        """Standard deviation of the mean Dice over seeds (n - 1)."""
        return float(np.std(self.dice, ddof=1)) if len(self.dice) > 1 else 0.0


@dataclass(frozen=True)
class Curve:
    """Validation Dice of an arm over the steps of its training, a line a seed; empty where the logs do not agree."""

    student: str
    arm: str
    steps: tuple[int, ...]
    dice: tuple[tuple[float, ...], ...]  # (seeds, steps)


@dataclass(frozen=True)
class Comparison:
    """What a comparison showed."""

    seeds: tuple[int, ...]
    steps: tuple[int, ...]  # of training; more than one value would mean unequal arms
    rows: tuple[Row, ...]
    convention: str = CONVENTION
    tuning: tuple[tuple[str, str, dict[str, float]], ...] = ()  # arm, student, setting -> validation Dice
    validation: tuple[Curve, ...] = ()
    collapsed: tuple[str, ...] = ()  # runs and targets whose projections had collapsed


def t_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % t-interval of a mean; None for a single value, which tells nothing of the spread."""
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return None
    half = float(t.ppf(0.975, count - 1)) * float(np.std(differences, ddof=1)) / count**0.5
    mean = float(np.mean(differences))
    return (mean - half, mean + half)


def verdict(image_interval: tuple[float, float], seed_interval: tuple[float, float] | None) -> str:
    """`helps` needs both intervals above zero, `hurts` both below; one seed is never evidence."""
    if seed_interval is None:
        return UNDECIDED
    if min(image_interval[0], seed_interval[0]) > 0:
        return HELPS
    return HURTS if max(image_interval[1], seed_interval[1]) < 0 else UNDECIDED


def in_order(scores: Sequence[Score], dataset: str) -> list[Score]:
    """One run's scores on a data set, by the keys of its images."""
    return sorted((score for score in scores if score.dataset == dataset), key=lambda score: (score.key, score.stem))


def dice_matrix(scores: Mapping[Key, Sequence[Score]], dataset: str, arm: str, student: str) -> np.ndarray:
    """Dice (seeds, images) of one arm on one data set, images `in_order`."""
    seeds = sorted(seed for a, s, seed in scores if (a, s) == (arm, student))
    parts = [in_order(scores[arm, student, seed], dataset) for seed in seeds]
    first = in_order(next(iter(scores.values())), dataset)
    expected = [(score.key, score.stem) for score in first]
    if any([(score.key, score.stem) for score in part] != expected for part in parts):
        raise ValueError(f"arm {arm!r} was scored on other images of {dataset} than the first arm; compare equal data")
    return np.array([[score.dice for score in part] for part in parts])


def compare_scores(
    scores: Mapping[Key, Sequence[Score]],
    *,
    seconds: Mapping[Key, float],
    steps: set[int],
    resamples: int,
    tuning: Mapping[tuple[str, str], dict[str, float]] | None = None,
    networks: Mapping[tuple[str, str], str] | None = None,
) -> Comparison:
    """The rows of a comparison: each arm of each student on each data set against the first arm.

    Args:
        scores: per-image figures of every run; all runs scored the same images.
        seconds: of training.
        steps: that any run trained.
        resamples: of the bootstrap over images.
        tuning: validation Dice of the settings that each arm and student tried.
        networks: the network that each arm and student trained, where arms have their own.
    """
    arms = list(dict.fromkeys(arm for arm, _, _ in scores))
    students = list(dict.fromkeys(student for _, student, _ in scores))
    datasets = list(dict.fromkeys(score.dataset for score in next(iter(scores.values()))))
    rows = []
    for dataset in datasets:
        groups = [score.group for score in in_order(next(iter(scores.values())), dataset)]
        for student in students:
            control = dice_matrix(scores, dataset, arms[0], student)
            for arm in arms:
                dice = dice_matrix(scores, dataset, arm, student)
                spent = float(np.mean([s for (a, n, _), s in seconds.items() if (a, n) == (arm, student)]))
                facts: dict[str, Any] = {
                    "dataset": dataset,
                    "images": dice.shape[1],
                    "student": student,
                    "arm": arm,
                    "dice": tuple(dice.mean(axis=1).tolist()),
                    "seconds": spent,
                    "network": (networks or {}).get((arm, student), ""),
                    "sequences": count_sequences(groups),
                }
                found = against(control, dice, groups=groups, resamples=resamples, first=arm == arms[0])
                rows.append(Row(**facts, **found))
    tried = tuple((arm, student, figures) for (arm, student), figures in (tuning or {}).items())
    seeds = tuple(sorted({seed for _, _, seed in scores}))
    return Comparison(seeds, tuple(sorted(steps)), tuple(rows), tuning=tried)


def against(
    control: np.ndarray, dice: np.ndarray, *, groups: Sequence[str | None], resamples: int, first: bool
) -> dict[str, Any]:
    """Difference, intervals and verdict of an arm (seeds, images) against the control (seeds, images)."""
    if first:
        return {"difference": None, "image_interval": None, "seed_interval": None, "verdict": "control"}
    difference = dice - control
    image_interval = bootstrap(difference.mean(axis=0), groups=groups, resamples=resamples)
    seed_interval = t_interval(difference.mean(axis=1).tolist())
    return {
        "difference": float(difference.mean()),
        "image_interval": image_interval,
        "seed_interval": seed_interval,
        "verdict": verdict(image_interval, seed_interval),
    }


def points(interval: tuple[float, float] | None) -> str:
    """An interval in points of Dice (hundredths), signed."""
    return f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else ""


def markdown(comparison: Comparison, *, title: str) -> str:
    """The table of a comparison, and how to read it."""
    count = len(comparison.seeds)
    lines = [
        f"### {title}: {count} seed{'s' * (count != 1)}, {', '.join(map(str, comparison.steps))} steps each",
        "",
        "| data set | student | arm | Dice | seed spread | difference (points) | 95 % over images | 95 % over seeds "
        "| | training |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in comparison.rows:
        of = f" in {row.sequences} sequences" if row.sequences else ""
        difference = "" if row.difference is None else f"{100 * row.difference:+.1f}"
        lines.append(
            f"| {row.dataset} ({row.images}{of}) | {row.student} | {row.label} | {row.mean:.3f} "
            f"| {f'{row.spread:.3f}' if count > 1 else ''} | {difference} | {points(row.image_interval)} "
            f"| {points(row.seed_interval)} | {row.verdict} | {row.seconds:.0f} s |"
        )
    collapsed = [f"The projection collapsed: {one}." for one in comparison.collapsed]
    said = [f"Dice {comparison.convention}.", "", READING, *collapsed, *tuning_lines(comparison)]
    return "\n".join([*lines, "", *said])


def tuning_lines(comparison: Comparison) -> list[str]:
    """What every arm tried on validation and what was chosen, as lines; none where nothing was tried."""
    if not comparison.tuning:
        return []
    settings = list(comparison.tuning[0][2])
    lines = [
        f"Validation Dice of what every arm tried with seed {comparison.seeds[0]}; the best, in bold, was taken:",
        "",
        f"| arm | student | {' | '.join(settings)} |",
        f"| --- | --- |{' --- |' * len(settings)}",
    ]
    for arm, student, figures in comparison.tuning:
        best = max(figures, key=figures.__getitem__)
        cells = [f"**{figures[name]:.3f}**" if name == best else f"{figures[name]:.3f}" for name in settings]
        lines.append(f"| {arm} | {student} | {' | '.join(cells)} |")
    return [*lines, ""]
