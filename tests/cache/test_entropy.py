"""The entropy coders: every integer comes back, the bytes stay those of the format, and damage is told."""

from __future__ import annotations

import bisect
import hashlib
import json

import numpy as np
import pytest
from coefficients import LARGEST, bands, falling, laplacian
from hypothesis import given, settings

from cache import probability_tables as tables
from cache.entropy import CODERS, coder
from cache.probability_tables import UNIT, runs, table

LEVELS = range(tables.LOWEST, tables.HIGHEST + 1)


@pytest.mark.parametrize("name", CODERS)
@given(bands())
@settings(max_examples=80, deadline=None)
def test_every_integer_comes_back_under_any_deviations(name, band):
    values, deviations = band
    one = coder(name, deviations)
    assert one.decode(one.encode(values)).tolist() == values.tolist()


@pytest.mark.parametrize("name", CODERS)
def test_nothing_and_nothing_but_zeros_come_back(name):
    assert coder(name, falling(0)).decode(coder(name, falling(0)).encode(np.zeros(0, np.int32))).tolist() == []
    zeros, one = np.zeros(4000, np.int32), coder(name, falling(4000, high=0.6))
    assert one.decode(one.encode(zeros)).tolist() == zeros.tolist()
    assert len(one.encode(zeros)) < 300


def test_the_code_is_as_short_as_a_laplace_distribution_allows():
    deviations = falling(6000)
    rate = np.sqrt(2) / deviations.astype(np.float64)
    ideal, laplace, zstd = 0.0, 0, 0
    for seed in range(4):
        values = laplacian(deviations, seed)
        bits = 1 + (rate * (np.abs(values) - 0.4)) / np.log(2) - np.log2(1 - np.exp(-rate))
        ideal += np.where(values == 0, -np.log2(1 - np.exp(-0.6 * rate)), bits).sum() / 8
        laplace += len(coder("laplace", deviations).encode(values))
        zstd += len(coder("zstd", deviations).encode(values))
    assert ideal < laplace < 1.02 * ideal
    assert laplace < 0.93 * zstd


def test_most_values_are_read_as_bytes_and_larger_ones_as_int32():
    deviations = falling(500, high=4.0)
    one, values = coder("laplace", deviations), laplacian(deviations)
    assert one.decode(one.encode(values)).dtype == np.int8
    values[400] = -128
    assert one.decode(one.encode(values)).dtype == np.int32


def test_a_zstd_frame_written_by_the_first_version_is_still_read():
    code, one = bytes.fromhex("28b52ffd200949000005fb8000ffe8030000"), coder("zstd", np.ones(5, np.float32))
    assert one.encode(np.array([5, -5, 1000, 0, -1], np.int32)) == code
    assert one.decode(code).tolist() == [5, -5, 1000, 0, -1]


GOLDEN_VALUES = [700, -90, 3, 0, -2, 1, 0, 0, -1, 5, 0]
GOLDEN_DEVIATIONS = np.array([300, 20, 9, 3, 2, 1.5, 1, 0.9, 0.7, 0.6, 0.55], np.float32)
GOLDEN_TABLES = "afaf5fe9447e89153a06c272dd277dbffe1d1cc8b4cd3ef8ecbd756607fb105b"
GOLDEN_CODE = "0246a86f6eacf70e542f0000"


def test_the_laplace_code_has_golden_bytes_and_golden_tables():
    one = coder("laplace", GOLDEN_DEVIATIONS)
    assert one.encode(np.array(GOLDEN_VALUES, np.int32)).hex() == GOLDEN_CODE
    assert one.decode(bytes.fromhex(GOLDEN_CODE)).tolist() == GOLDEN_VALUES
    facts = [(table(i).shift, table(i).symbols, table(i).tail, table(i).group_size) for i in LEVELS]
    assert hashlib.sha256(json.dumps(facts).encode()).hexdigest() == GOLDEN_TABLES


def test_the_stack_is_read_by_the_arithmetic_that_the_format_describes():
    """An ANS decoder in plain integers, so that the format does not hang on one library."""
    deviations = falling(300, high=30.0)
    values = laplacian(deviations)
    values[[3, 200]] = 5000, -LARGEST
    words = np.frombuffer(coder("laplace", deviations).encode(values), "<u4").tolist()
    state = words.pop() << 32 | words.pop()

    def pop(bounds):
        nonlocal state
        low = state % 2**24
        i = bisect.bisect_right(bounds, low) - 1
        state = (bounds[i + 1] - bounds[i]) * (state >> 24) + low - bounds[i]
        if state < 2**32 and words:
            state = state << 32 | words.pop()
        return i

    def bounds(shares):
        sums = np.concatenate([[0.0], np.cumsum(shares)])
        scaled = sums * ((2**24 - len(shares)) / sums[-1])
        return [int(x) + i for i, x in enumerate(scaled[:-1])] + [2**24]

    parts = [(table(level), start, stop) for level, start, stop in runs(deviations)]
    got, marks = np.zeros(300 + tables.PADDING, np.int64), np.zeros(300 + tables.PADDING, bool)
    for one, start, stop in parts:
        group_bounds = bounds(one.group_probabilities())
        for place in range(start, stop, one.group_size):
            group = pop(group_bounds)
            for j in reversed(range(one.group_size)):
                group, symbol = divmod(group, len(one.symbols))
                got[place + j], marks[place + j] = symbol - one.limit + 1, symbol == len(one.symbols) - 1
    low = [(start + i, one.shift, pop([c << 24 - one.shift for c in range(2**one.shift + 1)]))
           for one, start, stop in parts if one.shift for i in range(stop - start)]  # fmt: skip
    beyond = [(place, one.limit, pop(bounds(np.array(one.tail) / UNIT)))
              for one, start, stop in parts for place in np.flatnonzero(marks[start:stop]) + start]  # fmt: skip
    for place, limit, symbol in beyond:
        excess = symbol // 2
        if excess == tables.ESCAPE_FROM:
            excess += (pop(range(0, 2**24 + 1, 256)) << 16) + pop(range(0, 2**24 + 1, 256))
        got[place] = (limit + excess) * (-1) ** (symbol % 2)
    for place, shift, bits in low:
        got[place] = (got[place] << shift) + bits
    assert got[:300].tolist() == values.tolist()
    assert (state, words) == (0, [])


@pytest.mark.parametrize("level", LEVELS)
def test_a_table_is_whole_numbers_for_every_symbol_and_its_groups_are_exact(level):
    one = table(level)
    for counts in (one.symbols, one.tail):
        assert sum(counts) == UNIT and min(counts) >= 1
    assert one.symbols[:-1] == one.symbols[-2::-1]  # no sign is more likely
    groups = one.group_probabilities()
    assert groups.sum() == 1 and len(groups) == len(one.group_values()) == len(one.symbols) ** one.group_size
    assert one.limit <= 127


def test_runs_cover_a_band_once_with_whole_groups():
    deviations = falling(333, high=1e9)
    places = 0
    for level, start, stop in runs(deviations):
        assert start == places and (stop - start) % table(level).group_size == 0
        assert deviations[start] < 2 ** ((level + 1) / 2) or level == tables.HIGHEST
        places = stop
    assert 333 <= places <= 333 + tables.PADDING


def test_damage_is_told_and_an_unknown_coder_refused():
    deviations = falling(200)
    one = coder("laplace", deviations)
    code = one.encode(laplacian(deviations))
    for bad in (code[:-4], code[4:], code[:-1], code + b"\1\0\0\0", bytes(len(code))):
        with pytest.raises(ValueError, match=r"is damaged or does not hold 200 values; verify the cache"):
            one.decode(bad)
    with pytest.raises(ValueError, match=r"is damaged .*verify the cache"):
        coder("zstd", deviations).decode(b"no frame")
    with pytest.raises(ValueError, match="unknown entropy coder 'huffman'; this version knows laplace, zstd"):
        coder("huffman", deviations)
