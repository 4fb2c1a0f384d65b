"""Medians of interleaved runs, and rows of a table of figures with their limits."""

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
    """Seconds of the runs of one action, in order; `work` holds the CPU seconds of this process."""

    seconds: tuple[float, ...]
    work: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    def percentile(self, share: float) -> float:
        """The percentile `share` (0 to 1) of the seconds, by nearest rank."""
        ranked = sorted(self.seconds)
        return ranked[max(0, math.ceil(round(share * len(ranked), 6)) - 1)]


def interleaved(
    actions: Mapping[str, Callable[[], object]], *, rounds: int, warm: int = 2, what: str = "bench"
) -> dict[str, Timing]:
    """Runs every action once per round, in rotating order, and returns the seconds of each.

    Args:
        actions: name -> action to time; on an accelerator it must itself wait for the device.
        rounds: measured runs of each action.
        warm: runs of each action before anything is measured.
        what: name shown with the progress.
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
    """Waits for the accelerator, if any, and returns `result`; otherwise only the launch would be timed."""
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return result


def ratio(timings: Mapping[str, Timing], above: str, below: str) -> float:
    """Median over the rounds of one action's seconds over another's; disturbances within a round cancel."""
    pairs = zip(timings[above].seconds, timings[below].seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def work_ratio(timings: Mapping[str, Timing], above: str, below: str) -> float:
    """As `ratio`, but of the CPU seconds of this process, which a busy machine changes little."""
    pairs = zip(timings[above].work, timings[below].work, strict=True)
    return statistics.median(a / b for a, b in pairs)


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        figure: what was measured, in words.
        value: the figure.
        unit: `x` for a ratio, `ms`, `bytes`, `images/s`.
        at_most: the upper limit, if any.
        at_least: the lower limit, if any.
        note: conditions: sizes, batch, the reference.
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
        """Whether the figure is within its limits; None if it has none."""
        if not self.wanted:
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)


def told(rows: Iterable[Row]) -> list[Row]:
    """The rows, each logged as soon as it is measured, because a benchmark may take an hour."""
    kept = []
    for row in rows:
        logger.info("%s: %.4g %s%s", row.figure, row.value, row.unit, f" (wanted {row.wanted})" if row.wanted else "")
        kept.append(row)
    return kept
