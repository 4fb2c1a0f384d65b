"""The laws under which the coder "laplace" codes: what a coefficient's expected deviation says of its integer.

A law is a table of integers made with decimal arithmetic, so that it is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import cache

import numpy as np

from cache.entropy import ESCAPE

STEPS = 2
"""Levels an octave of deviations; 4 cost twice the runs, and save less than 0.4 %."""

LOWEST, COARSE, HIGHEST = -2, 8, 48
"""Level i holds the deviations from 2^(i / STEPS) to 2^((i + 1) / STEPS) steps, the outermost all beyond. From COARSE
on (16 steps) low bits are coded as they are, and the rest has the law of a level just below COARSE."""

ZERO, TAIL = Decimal("0.5"), Decimal("1.1")
"""P(0) = 1 - exp(-ZERO a), and the ratio exp(-TAIL a) from each larger |q| to the next, where a = sqrt(2) / deviation.
Laplace's own law with this project's dead zone would be 0.6 and 1; real coefficients are zero less often and have
shorter tails: 1.4 % fewer bytes on EfficientNet features, 0.8 % on the built-in SAM's (LOG.md)."""

FAR = Decimal("0.03")
"""A digit reaches so far that at most this share of the coefficients lies beyond."""

SYMBOLS = 1300
"""At most so many symbols: as many digits as that allows make one."""

UNIT = 1 << 13
"""The frequencies of a digit sum to this: the product of four is exact as a float."""

REST = 64
"""What lies this much beyond a digit's reach, or more, is coded as it is."""

PADDING = 3
"""A run may end so far beyond the last coefficient, for it holds whole symbols."""


@dataclass(frozen=True)
class Law:
    """How the coefficients of one level are coded.

    A coefficient q is t * 2^shift + r with 0 <= r < 2^shift. The digits are t = -reach + 1 ... reach - 1 and, the last,
    all other t; of those, 2 * min(|t| - reach, REST) + (t < 0) is coded under `tail`. `size` digits, the first the
    most significant, make one symbol.

    Attributes:
        shift: how many low bits are coded as they are.
        digits: frequencies that sum to UNIT.
        tail: frequencies that sum to UNIT.
        size: digits a symbol; 1 to 4.
    """

    shift: int
    digits: tuple[int, ...]
    tail: tuple[int, ...]
    size: int

    @property
    def reach(self) -> int:
        """The smallest |t| that is no digit of its own."""
        return len(self.digits) // 2

    def symbols(self) -> np.ndarray:
        """(len(digits) ** size,) float64: the probability of each symbol, exactly."""
        joint = single = np.array(self.digits) / UNIT
        for _ in range(self.size - 1):
            joint = np.multiply.outer(joint, single).reshape(-1)
        return joint

    def values(self) -> np.ndarray:
        """(len(digits) ** size,): the `size` int8 of each symbol as one item; ESCAPE for the last digit."""
        digits = np.array([*range(1 - self.reach, self.reach), ESCAPE], np.int8)
        groups = np.stack(np.meshgrid(*[digits] * self.size, indexing="ij"), -1).reshape(-1, self.size)
        return groups.view({1: "i1", 2: "i2", 3: "V3", 4: "i4"}[self.size])[:, 0]


@cache
def law(level: int) -> Law:
    """The law of a level; see LOWEST and HIGHEST."""
    shift = max(0, (level - COARSE) // STEPS + 1)
    with localcontext(Context(prec=30)):
        rate = Decimal(2).sqrt() / Decimal(2) ** ((level - shift * STEPS + Decimal("0.5")) / STEPS)
        beyond, ratio = (-ZERO * rate).exp(), (-TAIL * rate).exp()
        reach = 2
        while beyond * ratio ** (reach - 1) > FAR:
            reach += 1
        side = [beyond * ratio**m * (1 - ratio) / 2 for m in range(reach - 1)]
        digits = [*side[::-1], 1 - beyond, *side, beyond * ratio ** (reach - 1)]
        tail = [ratio**m * (1 - ratio) / 2 for m in range(REST) for _ in "+-"] + [ratio**REST / 2] * 2
        size = max(size for size in (1, 2, 3, 4) if size == 1 or len(digits) ** size <= SYMBOLS)
        return Law(shift, _integers(digits, rest=reach - 1), _integers(tail, rest=0), size)


def _integers(shares: list[Decimal], *, rest: int) -> tuple[int, ...]:
    """Shares that sum to one as positive integers that sum to UNIT; the one at `rest` takes what rounding leaves."""
    counts = [int(share * (UNIT - len(shares))) + 1 for share in shares]
    counts[rest] += UNIT - sum(counts)
    return tuple(counts)


def runs(deviations: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(level, start, stop) of the runs of falling deviations (n,); the last may end up to PADDING beyond n.

    A run begins with the first coefficient of its level that no earlier run holds, and is made of whole symbols.
    """
    stops = (len(deviations) - np.searchsorted(deviations[::-1], _edges())).tolist()
    start = 0
    for level, stop in zip(range(HIGHEST, LOWEST - 1, -1), stops, strict=True):
        if stop > start:
            size = law(level).size
            last = start - (start - stop) // size * size
            yield level, start, last
            start = last


@cache
def _edges() -> np.ndarray:
    """The smallest deviation of each level as float32, the highest level first; the lowest takes all that is left."""
    with localcontext(Context(prec=30)):
        edges = [float(Decimal(2) ** (Decimal(level) / STEPS)) for level in range(HIGHEST, LOWEST, -1)]
    return np.array([*edges, -np.inf], np.float32)
