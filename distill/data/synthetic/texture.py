"""Periodic texture patterns, made once a process from a fixed seed, and a sampler for them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Field = NDArray[np.floating]  # float32 throughout, for speed

PERIOD = 512


@lru_cache(maxsize=1)
def wall_patterns() -> Field:
    """The patterns of mucosa, (4, 512, 512): vessels, mottle, and the slopes of a film of mucus along x and y.

    Vessels lie in [0, 1], branching trees on nothing; the others have unit deviation.
    """
    rng = np.random.default_rng(0x6D75636F7361)
    wet = _noise(rng, lowest=12, highest=56, slope=0.5)
    wet_x, wet_y = np.gradient(wet, axis=1), np.gradient(wet, axis=0)
    deviation = wet_x.std()
    mottle = _noise(rng, lowest=1, highest=90, slope=0.85)
    return np.stack([_vessels(rng), mottle, wet_x / deviation, wet_y / deviation]).astype(np.float32)


@lru_cache(maxsize=1)
def skin_patterns() -> Field:
    """The surface patterns of polyps, (4, 512, 512) of zero mean and unit deviation: grains, pits, gyri and villi."""
    rng = np.random.default_rng(0x706F6C7970)
    fine = _noise(rng, lowest=22, highest=40, slope=0.0)
    pits = np.tanh(2.5 * (_noise(rng, lowest=20, highest=30, slope=0.0) - 0.9))
    gyri = np.abs(_noise(rng, lowest=9, highest=17, slope=0.0))
    villi = np.abs(_noise(rng, lowest=16, highest=30, slope=0.5)) + 0.5 * _noise(rng, lowest=3, highest=9, slope=0.5)
    stack = np.stack([fine, pits, gyri, villi])
    return ((stack - stack.mean((1, 2), keepdims=True)) / stack.std((1, 2), keepdims=True)).astype(np.float32)


def sample(patterns: Iterable[Field], column: Field, row: Field) -> list[Field]:
    """Patterns, each (512, 512), read at positions (h, w) in texels, bilinear and periodic."""
    left, top = np.floor(column), np.floor(row)
    across, down = column - left, row - top
    left, top = left.astype(np.int32) & (PERIOD - 1), top.astype(np.int32) & (PERIOD - 1)
    right, below = (left + 1) & (PERIOD - 1), ((top + 1) & (PERIOD - 1)) * PERIOD
    top *= PERIOD
    corners = (top + left, top + right, below + left, below + right)
    return [_between(pattern.ravel(), corners, across, down) for pattern in patterns]


def _between(texels: Field, corners: tuple[np.ndarray, ...], across: Field, down: Field) -> Field:
    """Bilinear values (h, w) of flat `texels` (512 * 512,) at the indices of four corners, (h, w) each."""
    upper, upper_right, lower, lower_right = (texels.take(corner) for corner in corners)
    upper += across * (upper_right - upper)
    lower += across * (lower_right - lower)
    upper += down * (lower - upper)
    return upper


def _noise(rng: np.random.Generator, *, lowest: float, highest: float, slope: float) -> NDArray[np.float64]:
    """Periodic Gaussian noise (512, 512) of unit deviation; its amplitude falls as 1 / f^slope in a band of f."""
    spectrum = np.fft.rfft2(rng.standard_normal((PERIOD, PERIOD)))
    frequency = np.hypot(np.fft.fftfreq(PERIOD)[:, None], np.fft.rfftfreq(PERIOD)) * PERIOD
    low_side = 1 / (1 + (lowest / np.maximum(frequency, 1e-3)) ** 6)
    high_side = 1 / (1 + (frequency / highest) ** 6)
    field = np.fft.irfft2(spectrum * low_side * high_side / np.maximum(frequency, 1) ** (1 + slope), s=(PERIOD, PERIOD))
    return field / field.std()


def _vessels(rng: np.random.Generator) -> NDArray[np.float64]:
    """Branching vessels (512, 512): stems that wander, taper and fork, drawn on nine tiles so as to be periodic."""
    canvas = Image.new("L", (PERIOD, PERIOD))
    draw = ImageDraw.Draw(canvas)
    cells = [(PERIOD / 5 * (i + rng.random()), PERIOD / 5 * (j + rng.random())) for i in range(5) for j in range(5)]
    tips = [(x, y, rng.uniform(0, 2 * math.pi), rng.uniform(1.6, 3.2)) for x, y in cells]
    while tips:
        x, y, heading, width = tips.pop()
        while width > 0.7:
            heading += rng.normal(0, 0.28)
            step = 5 + 1.5 * width
            to_x, to_y = x + step * math.cos(heading), y + step * math.sin(heading)
            _draw_periodic(draw, (x, y, to_x, to_y), width)
            x, y, width = to_x, to_y, width * 0.968
            if rng.random() < 0.13:
                side = rng.choice((-1, 1)) * rng.uniform(0.5, 1.0)
                tips.append((x, y, heading + side, width * rng.uniform(0.55, 0.85)))
    sharp = np.asarray(canvas, np.float64) / 255
    frequency = np.hypot(np.fft.fftfreq(PERIOD)[:, None], np.fft.rfftfreq(PERIOD))
    return np.fft.irfft2(np.fft.rfft2(sharp) * np.exp(-2 * (math.pi * 0.9 * frequency) ** 2), s=sharp.shape)


def _draw_periodic(draw: ImageDraw.ImageDraw, segment: tuple[float, float, float, float], width: float) -> None:
    x0, y0, x1, y1 = segment
    shift_x, shift_y = PERIOD * math.floor(x0 / PERIOD), PERIOD * math.floor(y0 / PERIOD)
    ink = int(min(255, 70 + 45 * width))
    for over_x in (-PERIOD, 0, PERIOD):
        for over_y in (-PERIOD, 0, PERIOD):
            ends = (x0 - shift_x + over_x, y0 - shift_y + over_y, x1 - shift_x + over_x, y1 - shift_y + over_y)
            draw.line(ends, fill=ink, width=max(1, round(width)))
