"""Progress that people can read: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
LINE_EVERY_SECONDS = 10.0

logger = logging.getLogger("bandpass")


def clock(seconds: float) -> str:
    """`15.2` as `15 s`, `75` as `1 min 15 s`, `4000` as `1 h 6 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Progress:
    """Counts units of work by `update(n, note)`; shows rate and remaining time."""

    def __init__(
        self,
        what: str,
        *,
        total: int,
        unit: str,
        shown: bool = True,
        done: int = 0,
        line_every: float = LINE_EVERY_SECONDS,
    ) -> None:
        self.what, self.total, self.unit, self.shown, self.line_every = what, total, unit, shown, line_every
        self.first = self.done = done
        self.started = self.said = time.monotonic()
        self.bar = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, desc=what, unit=f" {unit}", dynamic_ncols=True)

    def update(self, count: int = 1, note: str = "") -> None:
        """Moves on by `count` units; `note` is shown beside the bar."""
        self.done += count
        if self.bar is not None:
            if note:
                self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(count)
            if not count:
                self.bar.refresh()
        elif self.shown and (
            self.done - count < self.total <= self.done or time.monotonic() - self.said > self.line_every
        ):
            self.said = time.monotonic()
            logger.info(self.line(note))

    def say(self, sentence: str) -> None:
        """Logs a line of its own, above the bar if there is one."""
        if self.bar is not None:
            self.bar.clear()
        logger.info(sentence)
        if self.bar is not None:
            self.bar.refresh()

    def line(self, note: str) -> str:
        """One plain line: `train 120/600 step, 4.1/s, 1 min 57 s left, loss 0.412`."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self.first) / elapsed
        ahead = (self.total - self.done) / rate if rate > 0 else 0.0
        pace = [f"{rate:.1f}/s", f"{clock(ahead)} left" if ahead else f"took {clock(elapsed)}"] if rate else []
        parts = [f"{self.what} {self.done}/{self.total} {self.unit}", *pace, note]
        return ", ".join(part for part in parts if part)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def progress(
    items: Iterable[Item], *, what: str, total: int, unit: str = "images", shown: bool = True
) -> Iterator[Item]:
    """Yields `items` and shows the progress."""
    with Progress(what, total=total, unit=unit, shown=shown) as bar:
        for item in items:
            yield item
            bar.update()
