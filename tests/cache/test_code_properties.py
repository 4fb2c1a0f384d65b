"""Properties of the code of any map: bands add up, crops are the series, nothing is folded, nothing is clipped."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from natural_maps import natural_maps

import cache
from cache.series import dct, nyquist_limit, series

SHAPES = ((2, (5, 9)), (3, (12, 7)), (6, (16, 16)))  # channels, native grid
FIDELITIES = (0.7, 0.95, 0.99)


@lru_cache
def coded(shape, fidelity, shells):
    """A codec and the code of a map that it was not fitted on."""
    channels, grid = SHAPES[shape]
    codec = cache.fit(natural_maps(24, 0, channels=channels, grid=grid), fidelity=fidelity, shells=shells)
    return codec, codec.encode(natural_maps(1, 1, channels=channels, grid=grid)[0])


CODES = st.builds(coded, st.integers(0, len(SHAPES) - 1), st.sampled_from(FIDELITIES), st.booleans())
GRIDS = st.tuples(st.integers(1, 24), st.integers(1, 24))


@st.composite
def boxes(draw):
    y, x = draw(st.floats(0, 0.8)), draw(st.floats(0, 0.8))
    return y, x, draw(st.floats(y + 0.1, 1)), draw(st.floats(x + 0.1, 1))


@given(CODES, st.none() | GRIDS, st.just((0, 0, 1, 1)) | boxes())
@settings(max_examples=60, deadline=None)
def test_low_and_high_are_all(example, grid, box):
    codec, code = example
    low, high, both = (codec.decode(code, box=box, grid=grid, band=band) for band in ("low", "high", "all"))
    torch.testing.assert_close(low + high, both, atol=2e-5, rtol=0)
    assert both.shape == (codec.components, *(grid or codec.grid))


@given(CODES, boxes(), GRIDS)
@settings(max_examples=60, deadline=None)
def test_a_crop_of_the_code_is_the_series_of_the_decoded_map_on_the_crop_s_grid(example, box, grid):
    """Decoded, transformed back and evaluated: as if the whole map had been kept and cut afterwards."""
    codec, code = example
    afterwards = series(dct(codec.decode(code)), codec.grid, box=box, grid=grid)
    torch.testing.assert_close(codec.decode(code, box=box, grid=grid), afterwards, atol=5e-5, rtol=0)


@given(CODES, boxes(), GRIDS)
@settings(max_examples=60, deadline=None)
def test_what_lies_above_the_target_s_nyquist_frequency_has_no_say(example, box, grid):
    """The same code with every coefficient above it removed decodes to the same numbers."""
    codec, code = example
    spectrum = dct(codec.decode(code))
    high, wide = (
        nyquist_limit(grid[0], box[2] - box[0], codec.grid[0]),
        nyquist_limit(grid[1], box[3] - box[1], codec.grid[1]),
    )
    below = torch.zeros_like(spectrum)
    below[:, :high, :wide] = spectrum[:, :high, :wide]
    there = series(below, codec.grid, box=box, grid=grid)
    torch.testing.assert_close(codec.decode(code, box=box, grid=grid), there, atol=5e-5, rtol=0)


@given(CODES, GRIDS)
@settings(max_examples=40, deadline=None)
def test_a_coarser_grid_has_the_energy_of_the_frequencies_that_it_holds_and_no_more(example, grid):
    codec, code = example
    spectrum = dct(codec.decode(code))[:, : grid[0], : grid[1]]
    scale = grid[0] * grid[1] / (codec.grid[0] * codec.grid[1])
    energy = codec.decode(code, grid=grid).square().sum().item()
    assert energy == pytest.approx(scale * spectrum.square().sum().item(), rel=1e-3, abs=1e-4)


@given(st.integers(0, 2**16), st.floats(1, 1000), st.floats(0, 30))
@settings(max_examples=4, deadline=None)
def test_fidelity_of_99_per_cent_on_large_maps_is_reached_without_clipping(seed, scale, offset):
    """Whatever the scale, and however much images differ as wholes: what leaves eight bits comes back as it was."""
    maps = natural_maps(8, seed, channels=2, grid=(64, 64))
    shifts = torch.randn(8, 2, 1, 1, generator=torch.Generator().manual_seed(seed))
    maps = scale * (maps + offset * shifts * maps.std((0, 2, 3), keepdim=True))
    codec = cache.fit(maps, fidelity=0.99)
    assert codec.reached >= 0.99
    strong = codec.mean[:, None, None] + 5000 * (maps[3] - codec.mean[:, None, None])
    for map_ in (maps[0], maps[3], strong):
        code, coefficients = codec.encode(map_), dct(codec.project(map_)).numpy()
        for name, band in codec.bands.items():
            wanted = band.integers(coefficients, step=codec.step, dead_zone=codec.dead_zone)
            assert np.array_equal(codec.coders[name].decode(code[name]), wanted)
    assert np.abs(codec.coders["low"].decode(codec.encode(strong)["low"])).max() > 127
