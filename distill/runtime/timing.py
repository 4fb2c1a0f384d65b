"""Medians of interleaved runs, and rows of a table of figures with the limits that were wanted."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from distill.runtime.progress import Progress

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Timing:
    """Seconds of the runs of one action, in the order they were made; `work` are those of this process's threads."""

    seconds: tuple[float, ...]
    work: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    def percentile(self, share: float) -> float:
        """Seconds that `share` (0 to 1) of the runs did not exceed; the nearest rank."""
        ranked = sorted(self.seconds)
        return ranked[max(0, math.ceil(round(share * len(ranked), 6)) - 1)]


def interleaved(
    actions: Mapping[str, Callable[[], object]], *, rounds: int, warm: int = 2, what: str = "bench"
) -> dict[str, Timing]:
    """Runs every action once a round, in an order that rotates, and returns the seconds of each.

    Args:
        actions: name -> what is timed; on an accelerator it must wait for the device itself.
        rounds: measured runs of each.
        warm: runs of each before anything is measured.
        what: named by the progress bar.
    """
    names = list(actions)
    for _ in range(warm):
        for name in names:
            actions[name]()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with Progress(what, total=rounds, unit="rounds") as bar:
        for index in range(rounds):
            turn = index % len(names)
            for name in names[turn:] + names[:turn]:
                began, worked = time.perf_counter(), time.process_time()
                actions[name]()
                taken[name].append((time.perf_counter() - began, time.process_time() - worked))
            bar.update()
    return {name: Timing(*zip(*pairs, strict=True)) for name, pairs in taken.items()}


def settle(result: object = None) -> object:
    """Waits for the accelerator, if there is one, and hands `result` on: without it only the launch would be timed."""
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return result


def ratio(timings: Mapping[str, Timing], above: str, below: str) -> float:
    """Median over the rounds of one action's seconds by another's: what both met in a round cancels."""
    pairs = zip(timings[above].seconds, timings[below].seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def work_ratio(timings: Mapping[str, Timing], above: str, below: str) -> float:
    """As `ratio`, of the time that processors spent on this process: what a busy machine leaves as it is."""
    pairs = zip(timings[above].work, timings[below].work, strict=True)
    return statistics.median(a / b for a, b in pairs)


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        figure: what was measured, in words.
        value: the figure.
        unit: `x` for a ratio, `ms`, `bytes`, `images/s`.
        at_most: it should not be above this.
        at_least: it should not be below this.
        note: conditions: sizes, batch, what it was measured against.
    """

    figure: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def wanted(self) -> str:
        """`<= 1.5`, `>= 3`, or nothing."""
        upper = f"<= {self.at_most:g}" if self.at_most is not None else ""
        lower = f">= {self.at_least:g}" if self.at_least is not None else ""
        return " and ".join(part for part in (lower, upper) if part)

    @property
    def met(self) -> bool | None:
        """Whether the figure is what was wanted; None where nothing was."""
        if not self.wanted:
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)


def told(rows: Iterable[Row]) -> list[Row]:
    """The rows, each logged as soon as it is measured: a benchmark may take an hour."""
    kept = []
    for row in rows:
        logger.info("%s: %.4g %s%s", row.figure, row.value, row.unit, f" (wanted {row.wanted})" if row.wanted else "")
        kept.append(row)
    return kept
