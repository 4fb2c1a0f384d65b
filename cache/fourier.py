"""The split of a map by Fourier frequencies, as in Polyp-DiFoM (arXiv 2512.09307); the code itself uses cosines.

A Fourier series continues a map periodically, so opposite borders meet in a jump that both bands then contain; a cosine
series continues it by reflection. The bands of a code are therefore cosine bands, and this split is computed from
decoded maps. The paper's box holds the frequencies -r ... r - 1 along each axis, r = min(rows, columns) // 6. It is not
symmetric, so its inverse is complex. Only the real part is used, in which a frequency counts half if its mirror image
lies outside the box.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cache.codec import Codec
from cache.series import Grid, cutoff, series


def fourier_low(maps: Tensor) -> Tensor:
    """The low band of real maps (..., h, w), of the same shape; `maps` minus it is the high band."""
    spectrum = torch.fft.fft2(maps)
    return torch.fft.ifft2(spectrum * _box((maps.shape[-2], maps.shape[-1])).to(maps)).real


def fourier_band(maps: Tensor, band: str) -> Tensor:
    """The "low" or "high" band of real maps (..., h, w); the two add up to them.

    Raises:
        ValueError: `band` is neither.
    """
    if band not in ("low", "high"):
        raise ValueError(f"a map has the Fourier bands low and high, got {band!r}")
    low = fourier_low(maps)
    return low if band == "low" else maps - low


@lru_cache(maxsize=16)
def fourier_shares(grid: Grid, band: str) -> Tensor:
    """The share of each cosine coefficient's energy [u, v] that lies in a band, (h, w) in [0, 1].

    With it the expected energy of a band follows from the coefficients' variances, if they are uncorrelated.
    """
    rows, columns = grid
    shares = torch.zeros(grid)
    for u in range(rows):  # a row at a time: all at once would be (h w)^2 numbers
        waves = torch.zeros(columns, rows, columns)
        waves[:, u] = torch.eye(columns)
        shares[u] = fourier_band(series(waves, grid), band).square().sum((1, 2))
    return shares


def fourier_deviation(codec: Codec, band: str) -> float:
    """The expected root mean square over components and cells of a band of decoded maps, as `Codec.band_deviation`.

    Coefficients are assumed to be uncorrelated.
    """
    shares, energy = fourier_shares(codec.grid, band).numpy(), 0.0
    for part in codec.bands.values():
        _, u, v = np.unravel_index(part.places, (codec.components, *part.extent))
        energy += float(((part.deviations.astype(np.float64) * codec.step) ** 2 * shares[u, v]).sum())
    if codec.shells:
        energy += float((codec.shells.center.double().square().sum(0).numpy() * shares).sum())
    return float(np.sqrt(energy / codec.variances.numel()))


@lru_cache(maxsize=16)
def _box(grid: Grid) -> Tensor:
    """(h, w) float32: each frequency's weight in the transform's order: 1 inside, 1/2 on one side only, 0 outside."""
    half = cutoff(grid) // 2
    inside = [((torch.fft.fftfreq(n) * n).round() >= -half) & ((torch.fft.fftfreq(n) * n).round() < half) for n in grid]
    box = (inside[0][:, None] & inside[1][None]).float()
    mirrored = box.flip((0, 1)).roll((1, 1), (0, 1))
    return (box + mirrored) / 2
