"""The cosine series: what a crop, a scale and a coarser grid of a map are."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn

from cache.series import cutoff, dct, nyquist_limit, series

GRIDS = st.tuples(st.integers(1, 13), st.integers(1, 13))


@st.composite
def boxes(draw):
    y, x = draw(st.floats(0, 0.7)), draw(st.floats(0, 0.7))
    return y, x, y + draw(st.floats(0.2, 0.3)), x + draw(st.floats(0.2, 0.3))


def random_maps(grid, seed=0, count=2):
    return torch.randn(count, *grid, generator=torch.Generator().manual_seed(seed))


@given(GRIDS)
@settings(max_examples=30, deadline=None)
def test_the_transform_is_scipys_orthonormal_dct_and_the_series_inverts_it(grid):
    maps = random_maps(grid)
    torch.testing.assert_close(dct(maps), torch.from_numpy(dctn(maps.numpy(), axes=(1, 2), norm="ortho")))
    torch.testing.assert_close(series(dct(maps), grid), maps, atol=1e-5, rtol=0)


@given(GRIDS, boxes(), GRIDS)
@settings(max_examples=40, deadline=None)
def test_the_series_on_a_crop_is_the_sum_of_cosines_that_its_grid_can_hold(native, box, grid):
    """Against the definition, term by term, in double precision."""
    coefficients = random_maps(native, count=1)[0]
    y0, x0, y1, x1 = box
    expected = torch.zeros(grid, dtype=torch.float64)
    y = y0 + (y1 - y0) * (torch.arange(grid[0], dtype=torch.float64)[:, None] + 0.5) / grid[0]
    x = x0 + (x1 - x0) * (torch.arange(grid[1], dtype=torch.float64)[None, :] + 0.5) / grid[1]
    for u in range(native[0]):
        for v in range(native[1]):
            if (u == 0 or u < grid[0] / (y1 - y0) - 1e-6) and (v == 0 or v < grid[1] / (x1 - x0) - 1e-6):
                weight = math.sqrt((1 if u == 0 else 2) / native[0] * (1 if v == 0 else 2) / native[1])
                expected += weight * coefficients[u, v] * torch.cos(math.pi * u * y) * torch.cos(math.pi * v * x)
    torch.testing.assert_close(series(coefficients, native, box=box, grid=grid), expected.float(), atol=1e-4, rtol=0)


@given(GRIDS, GRIDS)
@settings(max_examples=30, deadline=None)
def test_a_coarser_grid_keeps_what_it_can_hold_and_folds_nothing(native, grid):
    """The DCT of the samples is the corner of the coefficients, scaled: no energy from above the Nyquist frequency."""
    coefficients = random_maps(native)
    got = dct(series(coefficients, native, grid=grid))
    high, wide = min(grid[0], native[0]), min(grid[1], native[1])
    expected = torch.zeros_like(got)
    scale = math.sqrt(grid[0] * grid[1] / (native[0] * native[1]))
    expected[:, :high, :wide] = coefficients[:, :high, :wide] * scale
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_a_crop_that_falls_on_cells_is_the_crop_of_the_map():
    maps = random_maps((12, 16))
    got = series(dct(maps), (12, 16), box=(0.25, 0.5, 0.75, 1.0), grid=(6, 8))
    torch.testing.assert_close(got, maps[:, 3:9, 8:16], atol=1e-5, rtol=0)


def test_the_series_carries_gradients_and_takes_a_batch():
    coefficients = torch.randn(2, 3, 5, 5, requires_grad=True)
    with torch.inference_mode():
        series(coefficients, (5, 5), grid=(4, 7))  # the cached basis must not become an inference tensor
    series(coefficients, (5, 5), grid=(4, 7)).square().sum().backward()
    assert coefficients.grad is not None
    assert coefficients.grad[..., 4, :].abs().max() == 0  # row frequency 4 does not fit on 4 rows
    assert coefficients.grad[..., :4, :].abs().min() > 0


def test_cutoff_and_nyquist_follow_the_design():
    assert [cutoff(grid) for grid in ((64, 64), (20, 20), (40, 30), (5, 9), (1, 1))] == [20, 6, 10, 2, 2]
    assert nyquist_limit(10, 0.5, 20) == 20
    assert nyquist_limit(10, 0.7 - 0.2, 40) == 20  # 0.49999999999999994 of the side is half of it
    assert nyquist_limit(1, 1.0, 8) == 1
    assert nyquist_limit(8, 0.01, 20) == 20


@pytest.mark.parametrize(
    "box", [(0.5, 0.0, 0.5, 1.0), (0.0, -0.1, 1.0, 1.0), (0.0, 0.0, 1.2, 1.0), (0, 0, math.nan, 1)]
)
def test_a_box_that_is_empty_or_leaves_the_image_is_refused(box):
    with pytest.raises(ValueError, match=r"expected a box \(y0, x0, y1, x1\) with 0 <= y0 < y1 <= 1"):
        series(torch.ones(1, 2, 2), (2, 2), box=box)
