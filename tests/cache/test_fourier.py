"""The paper's split by Fourier frequencies, made of what was decoded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import GRID, disc_splits, recipe_of

import cache
from cache.fourier import fourier_band, fourier_low, fourier_shares
from cache.series import series
from distill.config.parse import read_recipe
from distill.config.schema import ImitateRecipe, StageRecipe
from distill.distillation.dataset import read_target
from distill.distillation.targets import plan_targets
from students import create

GRIDS = st.tuples(st.integers(1, 20), st.integers(1, 20))


def random_maps(grid, count=2):
    return torch.randn(count, *grid, generator=torch.Generator().manual_seed(0))


@given(GRIDS)
@settings(max_examples=30, deadline=None)
def test_the_low_band_is_the_real_part_of_the_paper_s_centred_box(grid):
    maps = random_maps(grid)
    half = max(1, min(grid) // 6)
    centred = torch.fft.fftshift(torch.fft.fft2(maps.double()), dim=(-2, -1))
    box = torch.zeros(grid)
    rows, columns = grid[0] // 2, grid[1] // 2
    box[max(0, rows - half) : rows + half, max(0, columns - half) : columns + half] = 1
    expected = torch.fft.ifft2(torch.fft.ifftshift(centred * box, dim=(-2, -1))).real
    torch.testing.assert_close(fourier_low(maps), expected.float(), atol=1e-5, rtol=0)


@given(GRIDS)
@settings(max_examples=30, deadline=None)
def test_low_and_high_are_all_and_no_band_gains_energy(grid):
    maps = random_maps(grid)
    low, high = fourier_band(maps, "low"), fourier_band(maps, "high")
    torch.testing.assert_close(low + high, maps, atol=1e-5, rtol=0)
    for part in (low, high):
        assert (part.square().sum((1, 2)) <= maps.square().sum((1, 2)) * (1 + 1e-5)).all()


def test_a_wave_well_inside_the_box_is_low_and_one_well_outside_high():
    y = torch.arange(36) / 36
    for cycles, band in ((3, "low"), (9, "high")):
        wave = torch.cos(2 * torch.pi * cycles * y)[:, None].expand(36, 36)
        torch.testing.assert_close(fourier_band(wave, band), wave, atol=1e-5, rtol=0)


@pytest.mark.parametrize("grid", [(12, 12), (9, 14)])
def test_the_expected_energy_of_a_band_is_the_measured_one(grid):
    spread = torch.rand(grid, generator=torch.Generator().manual_seed(1)) + 0.1
    drawn = torch.randn(4000, *grid, generator=torch.Generator().manual_seed(2)) * spread
    for band in ("low", "high"):
        measured = fourier_band(series(drawn, grid), band).square().sum((1, 2)).mean()
        expected = (fourier_shares(grid, band) * spread.square()).sum()
        assert expected.item() == pytest.approx(measured.item(), rel=0.05)
        assert fourier_shares(grid, band).min() >= 0 and fourier_shares(grid, band).max() <= 1 + 1e-5
    with pytest.raises(ValueError, match="has the Fourier bands low and high, got 'all'"):
        fourier_band(drawn, "all")


def test_a_recipe_may_ask_for_the_paper_s_bands(features):
    losses = {"segment": 1.0, "imitate_low": 1.0, "imitate_high": 1.0}
    recipe = recipe_of(features, imitate=ImitateRecipe(low=[8], high=[8], bands="fourier"))
    recipe = replace(recipe, stages={"joint": StageRecipe(epochs=1, losses=losses)})
    store = cache.open(features)
    low, high = plan_targets(recipe, {"drawn": store}, create("unet", width=2))
    key = disc_splits().train[0].key
    box = (0.1, 0.2, 0.9, 0.8)
    parts = [read_target(store, target, key, "hflip", box) for target in (low, high)]
    whole = read_target(store, replace(low, band="all"), key, "hflip", box)
    torch.testing.assert_close(sum(parts), whole, atol=1e-5, rtol=0)
    cosine = read_target(store, replace(low, split="cosine"), key, "hflip", box)
    assert (parts[0] - cosine).norm() > 0.1 * cosine.norm()
    decoded = torch.stack([store.decode(*record, map="neck") for record in store])
    measured = fourier_band(decoded, "high").square().mean().sqrt().item()
    assert high.deviation == pytest.approx(measured, rel=0.15)
    assert decoded.shape[2:] == GRID
    with pytest.raises(ValueError, match=r"imitate.bands is '?wavelet'?, but .*cosine, fourier"):
        read_recipe(["recipe=sam_to_unet", "imitate.bands=wavelet"])
