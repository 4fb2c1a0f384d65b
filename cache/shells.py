"""Shells of frequencies with their own principal axes, in which format 2 codes the coefficients.

The principal axes of whole maps are not those of their detail: within a range of frequencies the components are
correlated again, which costs bytes. So the mean map is subtracted, and the coefficients of each shell
a <= max(u, v) < b are rotated by an orthogonal matrix. The first shell is the low band, so the bands do not change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import torch
from torch import Tensor

from cache.series import Grid, cutoff

RATIO = 1.6
"""Each shell but the first ends at this multiple of the frequency at which it begins, rounded."""


@cache
def shells_of(grid: Grid) -> tuple[tuple[int, int], ...]:
    """(first, end) of each shell of a native grid, in which first <= max(u, v) < end."""
    edges = [0, cutoff(grid)]
    while edges[-1] < max(grid):
        edges.append(round(RATIO * edges[-1]))
    return tuple(pairwise(edges))


def rectangles(start: int, stop: int) -> Iterator[tuple[slice, slice]]:
    """The frequencies start <= max(u, v) < stop as rows u and columns v of two rectangles."""
    yield slice(start, stop), slice(0, stop)
    yield slice(0, start), slice(start, stop)


@dataclass(frozen=True, eq=False)
class Shells:
    """The mean map and the axes of each shell.

    Attributes:
        center: (K, h, w) float32, the mean of the coefficients in the coded space; zero beyond the coded frequencies.
        turns: (S, K, K) float32, the axes of each shell as orthonormal columns.
    """

    center: Tensor
    turns: Tensor

    @property
    def grid(self) -> Grid:
        """Rows and columns of the native grid."""
        return self.center.shape[1], self.center.shape[2]

    def forward(self, coefficients: Tensor) -> Tensor:
        """Coefficients (..., K, h, w) minus the mean map, in the axes of their shells."""
        return self._turn(coefficients - self.center.to(coefficients), self.turns.mT.to(coefficients))

    def axes(self, kept: Tensor) -> tuple[int, ...]:
        """The number of axes of each shell that hold all of its coefficients that are `kept`, (K, h, w) bool."""
        found = []
        for shell in shells_of(self.grid):
            parts = [kept[:, rows, columns].flatten(1).any(1) for rows, columns in rectangles(*shell)]
            used = torch.stack(parts).any(0).nonzero()
            found.append(int(used.max()) + 1 if len(used) else 0)
        return tuple(found)

    def back(self, coded: Tensor, bands: Collection[str], *, axes: Sequence[int]) -> Tensor:
        """The inverse of `forward` for the frequencies below U and V: (..., K, U, V).

        Args:
            coded: coefficients as they are coded; those of bands that are not read are zero.
            bands: the bands that are read; the others contribute nothing to the result.
            axes: the number of axes of each shell that may be coded; the coefficients of the others are zero.
        """
        center, turns = self._on(coded.device)
        mean = center[:, : coded.shape[-2], : coded.shape[-1]]
        if "low" not in bands:
            corner = shells_of(self.grid)[0][1]
            mean = mean.clone()
            mean[:, :corner, :corner] = 0
        return self._turn(coded, [turn[:, :count] for turn, count in zip(turns, axes, strict=True)]) + mean

    def energy(self, grid: Grid) -> float:
        """The squares of the mean map, summed over the frequencies that a grid represents."""
        return float(self.center[:, : grid[0], : grid[1]].double().square().sum())

    def _turn(self, coefficients: Tensor, matrices: Iterable[Tensor]) -> Tensor:
        """Coefficients (..., K, U, V), each shell multiplied by its matrix; axes beyond its columns are ignored."""
        result = torch.zeros_like(coefficients)
        for matrix, (start, stop) in zip(matrices, shells_of(self.grid), strict=True):
            for rows, columns in rectangles(start, stop):
                block = coefficients[..., : matrix.shape[1], rows, columns]
                if block.numel():
                    result[..., rows, columns] = (matrix @ block.flatten(-2)).unflatten(-1, block.shape[-2:])
        return result

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean map and axes on a device, copied once."""
        if device not in self._copies:
            self._copies[device] = self.center.to(device), self.turns.to(device)
        return self._copies[device]

    @cached_property
    def _copies(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}
