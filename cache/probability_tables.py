"""The probability tables of the coder "laplace": how likely an integer is, given its coefficient's expected deviation.

A table holds integer frequencies computed in decimal arithmetic, so it is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import cache

import numpy as np

from cache.entropy import ESCAPE

LEVELS_PER_OCTAVE = 2
"""Levels per octave of deviations; 4 would cost twice the runs and save less than 0.4 %."""

LOWEST, COARSE, HIGHEST = -2, 8, 48
"""Level i holds deviations from 2^(i / LEVELS_PER_OCTAVE) to 2^((i + 1) / LEVELS_PER_OCTAVE) steps; LOWEST and HIGHEST
hold all beyond. From COARSE (16 steps) on, low bits are raw, and high bits use the table of a level just below."""

ZERO, DECAY = Decimal("0.5"), Decimal("1.1")
"""P(0) = 1 - exp(-ZERO a), and the ratio exp(-DECAY a) from each larger |q| to the next, where a = sqrt(2) / deviation.
A Laplace distribution with this dead zone would give 0.6 and 1. Real coefficients are zero less often and have shorter
tails; these values save 1.4 % of the bytes on EfficientNet features and 0.8 % on the built-in SAM's (LOG.md)."""

TAIL_SHARE = Decimal("0.03")
"""The limit is the smallest for which at most this share of the coefficients has |t| >= limit."""

MAX_GROUPS = 1300
"""The largest alphabet of groups: as many symbols as it allows form one group."""

UNIT = 1 << 13
"""The frequencies of one table sum to this: the product of four is exact as a float."""

ESCAPE_FROM = 64
"""An excess |t| - limit of this much or more is escaped: its remainder is stored as 32 raw bits."""

PADDING = 3
"""A run may end up to this many coefficients beyond the last, since it holds whole groups."""


@dataclass(frozen=True)
class ProbabilityTable:
    """The frequencies under which the coefficients of one level are coded.

    A coefficient q is t * 2^shift + r with 0 <= r < 2^shift. The symbols are t = -limit + 1 ... limit - 1 and, as the
    last one, all other t; of those, 2 * min(|t| - limit, ESCAPE_FROM) + (t < 0) is coded with `tail`. `group_size`
    symbols, the first the most significant, are coded as one group.

    Attributes:
        shift: the number of low bits that are stored raw.
        symbols: (2 limit,) frequencies that sum to UNIT.
        tail: (2 ESCAPE_FROM + 2,) frequencies that sum to UNIT.
        group_size: symbols per group; 1 to 4.
    """

    shift: int
    symbols: tuple[int, ...]
    tail: tuple[int, ...]
    group_size: int

    @property
    def limit(self) -> int:
        """The smallest |t| without a symbol of its own."""
        return len(self.symbols) // 2

    def group_probabilities(self) -> np.ndarray:
        """(len(symbols) ** group_size,) float64: the probability of each group, exactly."""
        joint = single = np.array(self.symbols) / UNIT
        for _ in range(self.group_size - 1):
            joint = np.multiply.outer(joint, single).reshape(-1)
        return joint

    def group_values(self) -> np.ndarray:
        """(len(symbols) ** group_size,): the int8 values t of each group as one item; ESCAPE for the last symbol."""
        values = np.array([*range(1 - self.limit, self.limit), ESCAPE], np.int8)
        groups = np.stack(np.meshgrid(*[values] * self.group_size, indexing="ij"), -1).reshape(-1, self.group_size)
        return groups.view({1: "i1", 2: "i2", 3: "V3", 4: "i4"}[self.group_size])[:, 0]


@cache
def table(level: int) -> ProbabilityTable:
    """The probability table of a level from LOWEST to HIGHEST."""
    shift = max(0, (level - COARSE) // LEVELS_PER_OCTAVE + 1)
    with localcontext(Context(prec=30)):
        octaves = (level - shift * LEVELS_PER_OCTAVE + Decimal("0.5")) / LEVELS_PER_OCTAVE
        rate = Decimal(2).sqrt() / Decimal(2) ** octaves
        nonzero, ratio = (-ZERO * rate).exp(), (-DECAY * rate).exp()
        limit = 2
        while nonzero * ratio ** (limit - 1) > TAIL_SHARE:
            limit += 1
        side = [nonzero * ratio**m * (1 - ratio) / 2 for m in range(limit - 1)]
        symbols = [*side[::-1], 1 - nonzero, *side, nonzero * ratio ** (limit - 1)]
        tail = [ratio**m * (1 - ratio) / 2 for m in range(ESCAPE_FROM) for _ in "+-"] + [ratio**ESCAPE_FROM / 2] * 2
        size = max(size for size in (1, 2, 3, 4) if size == 1 or len(symbols) ** size <= MAX_GROUPS)
        return ProbabilityTable(shift, _frequencies(symbols, rest=limit - 1), _frequencies(tail, rest=0), size)


def _frequencies(shares: list[Decimal], *, rest: int) -> tuple[int, ...]:
    """Shares that sum to one as positive integers that sum to UNIT; the one at `rest` takes what rounding leaves."""
    counts = [int(share * (UNIT - len(shares))) + 1 for share in shares]
    counts[rest] += UNIT - sum(counts)
    return tuple(counts)


def runs(deviations: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(level, start, stop) of the runs of falling deviations (n,); the last may end up to PADDING beyond n.

    A run begins with the first coefficient of its level that no earlier run holds, and is made of whole groups.
    """
    stops = (len(deviations) - np.searchsorted(deviations[::-1], _edges())).tolist()
    start = 0
    for level, stop in zip(range(HIGHEST, LOWEST - 1, -1), stops, strict=True):
        if stop > start:
            size = table(level).group_size
            last = start - (start - stop) // size * size
            yield level, start, last
            start = last


@cache
def _edges() -> np.ndarray:
    """(levels,) float32: each level's least deviation, the highest level first; the lowest takes all that is left."""
    with localcontext(Context(prec=30)):
        edges = [float(Decimal(2) ** (Decimal(level) / LEVELS_PER_OCTAVE)) for level in range(HIGHEST, LOWEST, -1)]
    return np.array([*edges, -np.inf], np.float32)
