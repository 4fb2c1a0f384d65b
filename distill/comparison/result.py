"""The result of a comparison: every arm of every student on every test set against the first arm, with a verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.comparison.statistics import Interval, crossed_p_values, holm, image_interval, t_interval
from distill.evaluation.predictions_csv import Score
from distill.metrics.bootstrap import LEAST_GROUPS, count_sequences
from distill.metrics.overlap import CONVENTION

CONTROL, HELPS, HURTS, UNDECIDED = "control", "helps", "hurts", "no evidence of a difference"
ONE_SEED = "no verdict: one seed"
TOO_FEW = f"no verdict: fewer than {LEAST_GROUPS} groups of images"
LEVEL = 0.05  # of the corrected p value under which an arm helps or hurts

Key = tuple[str, str, int]  # arm, student, seed


@dataclass(frozen=True)
class Row:
    """One arm of one student on one data set; Dice in [0, 1]."""

    dataset: str
    images: int
    student: str
    arm: str
    dice: tuple[float, ...]  # mean over images, one per seed
    seconds: float | None  # of training, mean over seeds; None if only scores were kept
    difference: float | None = None  # from the first arm, mean over seeds and images; None for the first arm itself
    image_interval: Interval | None = None  # 95 %: seeds averaged per image, images (or sequences) bootstrapped
    seed_interval: Interval | None = None  # 95 %: t-interval over the seeds' mean differences
    verdict: str = CONTROL
    network: str = ""  # if an arm trains another network than the student compared
    sequences: int | None = None  # from which the images come, if known; the bootstrap draws them whole
    p_value: float | None = None  # of the crossed model, corrected for all arms, students and data sets
    empty: int = 0  # images whose mask is empty; the next two figures treat them apart
    false_alarms: tuple[float, ...] = ()  # share of these images in which something is predicted, one per seed
    dice_of_others: tuple[float, ...] = ()  # mean over the images with foreground, one per seed

    @property
    def label(self) -> str:
        """The arm, with its network in brackets if it trains its own."""
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
    """Validation Dice of an arm over the steps of its training, one line per seed, at the steps of all its logs."""

    student: str
    arm: str
    steps: tuple[int, ...]
    dice: tuple[tuple[float, ...], ...]  # (seeds, steps)


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison."""

    seeds: tuple[int, ...]
    steps: tuple[int, ...]  # of training; more than one value would mean unequal arms
    rows: tuple[Row, ...]
    convention: str = CONVENTION
    tuning: tuple[tuple[str, str, dict[str, float]], ...] = ()  # arm, student, setting -> `select` on validation
    validation: tuple[Curve, ...] = ()
    select: str = "dice"  # the validation figure by which weights are kept
    collapsed: tuple[str, ...] = ()  # runs and targets whose projections had collapsed


def compare_scores(
    scores: Mapping[Key, Sequence[Score]],
    *,
    resamples: int,
    seconds: Mapping[Key, float] | None = None,
    steps: Collection[int] = (),
    tuning: Mapping[tuple[str, str], dict[str, float]] | None = None,
    networks: Mapping[tuple[str, str], str] | None = None,
) -> Comparison:
    """The rows of a comparison: each arm of each student on each data set against the first arm.

    Args:
        scores: per-image figures of every run; all runs scored the same images.
        resamples: of the bootstrap over images.
        seconds: of training, if known.
        steps: the numbers of training steps that occur among the runs.
        tuning: validation figure of the settings that each arm and student tried.
        networks: the network that each arm and student trained, if arms have their own.

    Raises:
        ValueError: two runs were scored on different images.
    """
    datasets = list(dict.fromkeys(score.dataset for score in next(iter(scores.values()))))
    require_equal_images(scores)
    arms, students = list(dict.fromkeys(arm for arm, _, _ in scores)), dict.fromkeys(name for _, name, _ in scores)
    rows: list[Row] = []
    for dataset in datasets:
        images = in_order(next(iter(scores.values())), dataset)
        groups = [score.group for score in images]
        shares = np.array([np.nan if score.share is None else score.share for score in images])
        for student in students:
            dice = np.stack([dice_matrix(scores, dataset, arm, student) for arm in arms])
            against = [{}, *differences(dice, groups, resamples=resamples)]
            for arm, own, compared in zip(arms, dice, against, strict=True):
                row = Row(
                    dataset,
                    len(images),
                    student,
                    arm,
                    tuple(own.mean(axis=1).tolist()),
                    mean_seconds(seconds or {}, arm, student),
                    network=(networks or {}).get((arm, student), ""),
                    sequences=count_sequences(groups),
                    **compared,
                    **apart_from_empty(own, shares),
                )
                rows.append(row)
    tried = tuple((arm, student, figures) for (arm, student), figures in (tuning or {}).items())
    return Comparison(
        tuple(sorted({seed for _, _, seed in scores})), tuple(sorted(steps)), tuple(decided(rows)), tuning=tried
    )


def mean_seconds(seconds: Mapping[Key, float], arm: str, student: str) -> float | None:
    """Seconds of training, mean over the seeds of an arm; None if they are not known."""
    taken = [value for key, value in seconds.items() if key[:2] == (arm, student)]
    return float(np.mean(taken)) if taken else None


def apart_from_empty(dice: NDArray[np.float64], shares: NDArray[np.float64]) -> dict[str, Any]:
    """The fields of a `Row` on frames without foreground and on the others; empty if all frames have foreground.

    Args:
        dice: (seeds, images); for an empty mask it is 1 if nothing is predicted, and less otherwise.
        shares: (images,), the share of each image under its mask, NaN if not known.
    """
    empty = shares == 0
    if not empty.any():
        return {}
    others = dice[:, ~empty].mean(axis=1) if not empty.all() else []
    return {
        "empty": int(empty.sum()),
        "false_alarms": tuple((dice[:, empty] < 1).mean(axis=1).tolist()),
        "dice_of_others": tuple(map(float, others)),
    }


def differences(dice: NDArray[np.float64], groups: Sequence[str | None], *, resamples: int) -> Iterator[dict[str, Any]]:
    """The fields of a `Row` for each arm against the first, from `dice` (arms, seeds, images); p is uncorrected."""
    for own, p_value in zip(dice[1:], crossed_p_values(dice, groups=groups), strict=True):
        difference = own - dice[0]
        yield {
            "difference": float(difference.mean()),
            "image_interval": image_interval(difference, groups=groups, resamples=resamples),
            "seed_interval": t_interval(difference.mean(axis=1).tolist()),
            "p_value": p_value,
        }


def decided(rows: Sequence[Row]) -> list[Row]:
    """The rows with verdicts, and with p values corrected for all tests together."""
    corrected = [replace(row, p_value=p) for row, p in zip(rows, holm([row.p_value for row in rows]), strict=True)]
    return [row if row.difference is None else replace(row, verdict=verdict(row)) for row in corrected]


def verdict(row: Row) -> str:
    """`helps` or `hurts` if the corrected p value is below 5 % and the interval over images excludes 0.

    One seed is never evidence. Few seeds may agree by chance, more closely than their images allow; p is then too
    small, which is why the interval over images must exclude 0 as well.
    """
    if row.image_interval is None:
        return TOO_FEW
    if row.seed_interval is None:
        return ONE_SEED
    if row.p_value is None or row.difference is None or row.p_value >= LEVEL:
        return UNDECIDED
    if row.image_interval[0] <= 0 <= row.image_interval[1]:
        return UNDECIDED
    return HELPS if row.difference > 0 else HURTS


def in_order(scores: Sequence[Score], dataset: str) -> list[Score]:
    """One run's scores on a data set, sorted by image name, so that the bootstrap draws the same images anywhere."""
    return sorted((score for score in scores if score.dataset == dataset), key=lambda score: (score.stem, score.key))


def dice_matrix(scores: Mapping[Key, Sequence[Score]], dataset: str, arm: str, student: str) -> NDArray[np.float64]:
    """Dice (seeds, images) of one arm on one data set, images `in_order`."""
    seeds = sorted(seed for a, s, seed in scores if (a, s) == (arm, student))
    return np.array([[score.dice for score in in_order(scores[arm, student, seed], dataset)] for seed in seeds])


def require_equal_images(scores: Mapping[Key, Sequence[Score]]) -> None:
    """Raises ValueError unless all runs were scored on the same images, because differences are taken per image."""
    (first, expected), *others = (
        (key, {(score.dataset, score.stem, score.key) for score in part}) for key, part in scores.items()
    )
    for key, found in others:
        if different := sorted(found ^ expected):
            dataset, stem, _ = different[0]
            has, lacks = (key, first) if different[0] in found else (first, key)
            raise ValueError(
                f"{title_of(has)} was scored on image {stem} of {dataset}, but {title_of(lacks)} was not (the "
                f"first of {len(different)} such images); compare equal data (folds, for example, are not seeds)"
            )


def title_of(key: Key) -> str:
    """`arm 'distilled' (unet, seed 0)`."""
    arm, student, seed = key
    return f"arm {arm!r} ({f'{student}, ' if student else ''}seed {seed})"
