"""The entropy coder "laplace": asymmetric numeral systems with probability tables chosen by the stored variances.

The coder does not adapt, and no table is stored with the code. The deviations of a band are in falling order, so it is
cut into about a dozen runs with one table each (cache/probability_tables.py). Up to four coefficients are coded as one
group, since decoding costs one search per group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, final

import constriction
import numpy as np

from cache import native, probability_tables
from cache.entropy import ESCAPE, Coder
from cache.probability_tables import ESCAPE_FROM, PADDING

AnsCoder = constriction.stream.stack.AnsCoder
Categorical, Uniform = constriction.stream.model.Categorical, constriction.stream.model.Uniform

HALF = 1 << 16
"""An escaped value is stored as two halves below this, the upper one first."""


@dataclass(frozen=True, eq=False)
class _Run:
    """The coefficients start:stop of a band, and the probability models of their level."""

    start: int
    stop: int
    shift: int
    limit: int
    weights: np.ndarray  # (symbols per group,) the factor of each symbol in the group's number
    groups: Any  # constriction's model of a group
    tail: Any  # its model of the excess over the limit
    values: np.ndarray  # of each group, see `ProbabilityTable.group_values`
    compiled: tuple[native.Model, native.Model]  # of a group and of the excess, for decode.c

    def row(self) -> tuple[Any, ...]:
        """A row of `native.RUN`, which points into this run's models."""
        models = [model.addresses for model in self.compiled]
        size = len(self.weights)
        return self.start, self.stop, self.shift, self.limit, size, 0, *models, self.values.ctypes.data


@final
class Laplace(Coder):
    """The coder "laplace": one stack of the groups of all runs, low bits, excesses over the limit, escaped values."""

    def __init__(self, deviations: np.ndarray) -> None:
        """A coder of n coefficients of the expected `deviations` (n,), see `Coder`."""
        self.count = len(deviations)
        self.runs = [_Run(start, stop, *_models(level)) for level, start, stop in probability_tables.runs(deviations)]
        self.shifted = [run for run in self.runs if run.shift]
        self.stops = [run.stop for run in self.runs]
        self.limits = [run.limit for run in self.runs]
        self.compiled = np.array([run.row() for run in self.runs], native.RUN)

    def encode(self, values: np.ndarray) -> bytes:
        """Bytes of the int32 `values` (n,), see `Coder.encode`."""
        parts: dict[str, list[tuple[np.ndarray, Any]]] = {"groups": [], "low": [], "tail": [], "escape": []}
        padded = np.zeros(self.count + PADDING, np.int64)
        padded[: self.count] = values
        for run in self.runs:
            high = padded[run.start : run.stop] >> run.shift
            excess = np.abs(high) - run.limit
            symbols = np.where(excess < 0, high + run.limit - 1, 2 * run.limit - 1)
            parts["groups"].append((symbols.reshape(-1, len(run.weights)) @ run.weights, run.groups))
            if run.shift:
                parts["low"].append((padded[run.start : run.stop] & ((1 << run.shift) - 1), Uniform(1 << run.shift)))
            negative, excess = high[excess >= 0] < 0, excess[excess >= 0]
            parts["tail"].append((2 * np.minimum(excess, ESCAPE_FROM) + negative, run.tail))
            escaped = excess[excess >= ESCAPE_FROM] - ESCAPE_FROM
            parts["escape"].append((np.stack([escaped // HALF, escaped % HALF], 1).reshape(-1), Uniform(HALF)))
        stack = AnsCoder()
        for symbols, model in reversed([part for kind in parts.values() for part in kind]):
            stack.encode_reverse(symbols.astype(np.int32), model)
        return stack.get_compressed().astype("<u4").tobytes()

    def decode(self, code: bytes) -> np.ndarray:
        """The integers (n,), int8 or int32, see `Coder.decode`."""
        damaged = f"a code of {len(code)} bytes is damaged or does not hold {self.count} values; verify the cache"
        if len(code) % 4:
            raise ValueError(damaged)
        if native.library:
            found = native.decode(code, self.compiled, self.stops[-1] if self.stops else 0)
            if found is None:
                raise ValueError(damaged)
            return found[: self.count]
        try:
            stack = AnsCoder(np.frombuffer(code, "<u4").astype(np.uint32))
        except ValueError as error:
            raise ValueError(damaged) from error
        values = np.zeros(self.count + PADDING, np.int8)
        for run in self.runs:
            groups = stack.decode(run.groups, (run.stop - run.start) // len(run.weights))
            values[run.start : run.stop] = run.values.take(groups).view(np.int8)
        result = self._complete(values, stack)[: self.count]
        if not stack.is_empty():
            raise ValueError(damaged)
        return result

    def _complete(self, values: np.ndarray, stack: Any) -> np.ndarray:  # noqa: ANN401
        """The int8 `values` (n,) with low bits and values over the limit put in; int32 if they do not fit."""
        low = [stack.decode(Uniform(1 << run.shift), run.stop - run.start) for run in self.shifted]
        places = np.flatnonzero(values == ESCAPE)
        beyond = self._over_the_limit(places, stack)
        if low or (len(beyond) and np.abs(beyond).max() > 127):
            values = values.astype(np.int32)
        values[places] = beyond
        for run, bits in zip(self.shifted, low, strict=True):
            values[run.start : run.stop] = (values[run.start : run.stop] << run.shift) + bits
        return values

    def _over_the_limit(self, places: np.ndarray, stack: Any) -> np.ndarray:  # noqa: ANN401
        """(len(places),) int64: the high bits t of the coefficients at `places`, where |t| >= limit."""
        bounds = np.searchsorted(places, self.stops).tolist()
        counts = [last - first for first, last in zip([0, *bounds], bounds, strict=False)]
        tails = [stack.decode(run.tail, count) for run, count in zip(self.runs, counts, strict=True) if count]
        if not tails:
            return np.zeros(0, np.int64)
        symbols = np.concatenate(tails).astype(np.int64)
        magnitudes = symbols >> 1
        escaped = np.flatnonzero(magnitudes == ESCAPE_FROM)
        if len(escaped):
            halves = stack.decode(Uniform(HALF), 2 * len(escaped)).astype(np.int64)
            magnitudes[escaped] += halves[::2] * HALF + halves[1::2]
        magnitudes += np.repeat(self.limits, counts)
        return np.where(symbols & 1, -magnitudes, magnitudes)


@cache
def _models(level: int) -> tuple[Any, ...]:
    """The fields of a `_Run` that depend on its level alone."""
    table = probability_tables.table(level)
    weights = len(table.symbols) ** np.arange(table.group_size)[::-1]
    shares, tail = table.group_probabilities(), np.array(table.tail) / probability_tables.UNIT
    models = Categorical(shares, perfect=False), Categorical(tail, perfect=False)
    return table.shift, table.limit, weights, *models, table.group_values(), (native.Model(shares), native.Model(tail))
