"""Quantised coefficients of a band, drawn."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

LARGEST = 2**31 - 1


def falling(count, low=0.5, high=40.0):
    return np.geomspace(high, low, count).astype(np.float32) if count else np.zeros(0, np.float32)


def laplacian(deviations, seed=0):
    """Integers of a Laplace distribution, with the dead zone of the codec."""
    values = np.random.default_rng(seed).laplace(0, deviations / np.sqrt(2))
    return (np.sign(values) * np.floor(np.abs(values) + 0.4)).astype(np.int32)


@st.composite
def bands(draw):
    values = draw(st.lists(st.integers(-LARGEST, LARGEST) | st.integers(-130, 130) | st.just(0), max_size=80))
    exponents = draw(st.lists(st.floats(-6, 40), min_size=len(values), max_size=len(values)))
    return np.array(values, np.int32), np.sort(2.0 ** np.array(exponents, np.float32))[::-1].astype(np.float32)
