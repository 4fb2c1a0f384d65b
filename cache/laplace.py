"""The entropy coder "laplace": asymmetric numeral systems under the laws that the stored variances foretell.

Nothing is adapted, and nothing is stored beside the code. The deviations of a band fall, so that it is cut into a dozen
runs of one law each (cache/laws.py); up to four coefficients make one symbol, since decoding costs a search a symbol.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, final

import constriction
import numpy as np

from cache import laws
from cache.entropy import ESCAPE, Coder
from cache.laws import PADDING, REST

AnsCoder = constriction.stream.stack.AnsCoder
Categorical, Uniform = constriction.stream.model.Categorical, constriction.stream.model.Uniform

HALF = 1 << 16
"""What is coded as it is has two halves, the upper one first."""


@dataclass(frozen=True, eq=False)
class _Run:
    """The coefficients start:stop of a band, and the tables of their law."""

    start: int
    stop: int
    shift: int
    reach: int
    places: np.ndarray  # (digits a symbol,) what each digit counts in the symbol's number
    symbols: Any  # constriction's model of a symbol
    tail: Any  # and of what lies beyond a digit's reach
    values: np.ndarray  # of each symbol, see `Law.values`


@final
class Laplace(Coder):
    """All on one stack: the symbols of all runs, their low bits, what lies beyond the digits, the rest as it is."""

    def __init__(self, deviations: np.ndarray) -> None:
        """See `Coder`."""
        self.count = len(deviations)
        self.runs = [_Run(start, stop, *_tables(level)) for level, start, stop in laws.runs(deviations)]
        self.shifted = [run for run in self.runs if run.shift]
        self.stops = [run.stop for run in self.runs]
        self.reaches = [run.reach for run in self.runs]

    def encode(self, values: np.ndarray) -> bytes:
        """See `Coder.encode`."""
        parts: dict[str, list[tuple[np.ndarray, Any]]] = {"symbols": [], "low": [], "tail": [], "rest": []}
        padded = np.zeros(self.count + PADDING, np.int64)
        padded[: self.count] = values
        for run in self.runs:
            high = padded[run.start : run.stop] >> run.shift
            beyond = np.abs(high) - run.reach
            digits = np.where(beyond < 0, high + run.reach - 1, 2 * run.reach - 1)
            parts["symbols"].append((digits.reshape(-1, len(run.places)) @ run.places, run.symbols))
            if run.shift:
                parts["low"].append((padded[run.start : run.stop] & ((1 << run.shift) - 1), Uniform(1 << run.shift)))
            negative, beyond = high[beyond >= 0] < 0, beyond[beyond >= 0]
            parts["tail"].append((2 * np.minimum(beyond, REST) + negative, run.tail))
            rest = beyond[beyond >= REST] - REST
            parts["rest"].append((np.stack([rest // HALF, rest % HALF], 1).reshape(-1), Uniform(HALF)))
        stack = AnsCoder()
        for symbols, model in reversed([part for kind in parts.values() for part in kind]):
            stack.encode_reverse(symbols.astype(np.int32), model)
        return stack.get_compressed().astype("<u4").tobytes()

    def decode(self, code: bytes) -> np.ndarray:
        """See `Coder.decode`."""
        damaged = f"a code of {len(code)} bytes is damaged, or not of {self.count} values; verify the cache"
        if len(code) % 4:
            raise ValueError(damaged)
        try:
            stack = AnsCoder(np.frombuffer(code, "<u4").astype(np.uint32))
        except ValueError as error:
            raise ValueError(damaged) from error
        values = np.zeros(self.count + PADDING, np.int8)
        for run in self.runs:
            symbols = stack.decode(run.symbols, (run.stop - run.start) // len(run.places))
            values[run.start : run.stop] = run.values.take(symbols).view(np.int8)
        result = self._complete(values, stack)[: self.count]
        if not stack.is_empty():
            raise ValueError(damaged)
        return result

    def _complete(self, values: np.ndarray, stack: Any) -> np.ndarray:  # noqa: ANN401
        """Puts low bits, and what lies beyond the digits, into the int8 `values`; int32 if they do not fit."""
        low = [stack.decode(Uniform(1 << run.shift), run.stop - run.start) for run in self.shifted]
        places = np.flatnonzero(values == ESCAPE)
        beyond = self._beyond(places, stack)
        if low or (len(beyond) and np.abs(beyond).max() > 127):
            values = values.astype(np.int32)
        values[places] = beyond
        for run, bits in zip(self.shifted, low, strict=True):
            values[run.start : run.stop] = (values[run.start : run.stop] << run.shift) + bits
        return values

    def _beyond(self, places: np.ndarray, stack: Any) -> np.ndarray:  # noqa: ANN401
        """The values (int64), above their low bits, of the coefficients at `places`, which lie beyond the digits."""
        bounds = np.searchsorted(places, self.stops).tolist()
        counts = [last - first for first, last in zip([0, *bounds], bounds, strict=False)]
        tails = [stack.decode(run.tail, count) for run, count in zip(self.runs, counts, strict=True) if count]
        if not tails:
            return np.zeros(0, np.int64)
        symbols = np.concatenate(tails).astype(np.int64)
        beyond = symbols >> 1
        far = np.flatnonzero(beyond == REST)
        if len(far):
            halves = stack.decode(Uniform(HALF), 2 * len(far)).astype(np.int64)
            beyond[far] += halves[::2] * HALF + halves[1::2]
        beyond += np.repeat(self.reaches, counts)
        return np.where(symbols & 1, -beyond, beyond)


@cache
def _tables(level: int) -> tuple[Any, ...]:
    """The fields of a `_Run` that depend on its level alone."""
    law = laws.law(level)
    places = len(law.digits) ** np.arange(law.size)[::-1]
    symbols = Categorical(law.symbols(), perfect=False)
    tail = Categorical(np.array(law.tail) / laws.UNIT, perfect=False)
    return law.shift, law.reach, places, symbols, tail, law.values()
