"""Pixels that are read before their turn: the same samples in the same order, few at once, errors in their turn."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from distill.data.read_ahead import AHEAD, AHEAD_PIXELS, read_ahead
from distill.data.sample import Reader, Sample


def samples_of(count, read, size=(4, 4)):
    return [
        Sample("set", f"{n}", f"{n}", f"{n}", size, None, Reader(read, n), Reader(lambda n: np.full(2, -n), n))
        for n in range(count)
    ]


def test_pixels_are_those_of_reading_in_turn():
    samples = samples_of(50, lambda n: np.full(3, n))
    read = list(read_ahead(samples))
    assert read == samples
    for number, sample in enumerate(read):
        assert sample.read_image().tolist() == [number] * 3
        assert sample.read_mask().tolist() == [-number] * 2


@pytest.mark.parametrize(("size", "most"), [((4, 4), AHEAD + 1), ((4000, AHEAD_PIXELS // 8000), 3)])
def test_few_are_read_at_once_and_fewer_of_large_ones(size, most):
    begun, guard = [], threading.Lock()

    def read(number):
        with guard:
            begun.append(number)
        return number

    for number, _ in enumerate(read_ahead(samples_of(60, read, size))):
        time.sleep(0.001)
        assert len(begun) <= number + most


def test_images_that_nobody_wants_are_not_read():
    samples = samples_of(3, lambda n: pytest.fail("read"))
    assert [sample.read_mask()[0] for sample in read_ahead(samples, images=False)] == [0, -1, -2]


def test_an_error_comes_in_the_turn_of_its_sample():
    def read(number):
        if number == 2:
            raise OSError("a2 is truncated")
        return number

    seen = []
    with pytest.raises(OSError, match="a2 is truncated"):
        for sample in read_ahead(samples_of(9, read)):
            seen.append(sample.read_image())  # noqa: PERF401 - what was seen before the error
    assert seen == [0, 1]
