"""Maps for tests of the code: random fields with the spectrum of natural images."""

from __future__ import annotations

import torch

from cache.series import series

CHANNELS, GRID = 12, (14, 18)


def natural_maps(count, seed, channels=CHANNELS, grid=GRID):
    """Random fields with the falling spectrum of natural images, mixed by one matrix, on unequal scales and means."""
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.arange(grid[0])[:, None], torch.arange(grid[1])[None, :]
    fall = 1 / (1 + u**2 + v**2).sqrt()
    fields = series(torch.randn(count, channels, *grid, generator=generator) * fall, grid)
    mixing = torch.randn(channels, channels, generator=torch.Generator().manual_seed(99)) / (1 + torch.arange(channels))
    scale = torch.logspace(-1, 2, channels)[:, None, None]
    return torch.einsum("ck,nkhw->nchw", mixing, fields) * scale + 3 * scale
