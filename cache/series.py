"""The cosine series behind the 2-D DCT: defined at every point of the image, evaluated on any grid in any box.

The orthonormal DCT-II of a map with `n` cells a side, centred at (i + 1/2) / n, is the series

    f(y) = sum_u a_u Z_u cos(pi u y),   a_0 = sqrt(1 / n),   a_u = sqrt(2 / n)

in the continuous coordinate y in [0, 1]. Evaluated at the n cell centres it returns the map; evaluated elsewhere it is
the map's band-limited interpolation. A crop, a scale and a change of grid are therefore one pair of small matrices.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, pi

import numpy as np
import torch
from torch import Tensor

Box = tuple[float, float, float, float]
Grid = tuple[int, int]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def cutoff(grid: Grid) -> int:
    """The low band is max(u, v) < cutoff = 2r, r = max(1, min(rows, columns) // 6): r full cycles an image side."""
    return 2 * max(1, min(grid) // 6)


def nyquist_limit(points: int, extent: float, cells: int) -> int:
    """The number of frequencies, from zero, that `points` samples over `extent` of the side show without aliasing.

    Frequency u makes u half cycles over the side, u * extent over the box; `points` samples represent fewer than
    `points` half cycles. So u >= points / extent is dropped; the native grid drops nothing. At least u = 0 is kept.
    """
    return max(1, min(cells, ceil(points / extent - 1e-6)))


def dct(maps: Tensor) -> Tensor:
    """The orthonormal 2-D DCT-II over the last two axes: (..., h, w) -> (..., h, w) as [u, v]."""
    rows = torch.from_numpy(_whole(maps.shape[-2], maps.shape[-2], maps.shape[-2])).to(maps)
    columns = torch.from_numpy(_whole(maps.shape[-1], maps.shape[-1], maps.shape[-1])).to(maps)
    return rows.T @ (maps @ columns)


def series(coefficients: Tensor, native_grid: Grid, *, box: Box = WHOLE, grid: Grid | None = None) -> Tensor:
    """Evaluates the cosine series at the cell centres of a grid over a box of the image.

    Args:
        coefficients: (..., U, V), orthonormal DCT-II coefficients; U and V may be fewer than the native rows and
            columns if all others are zero.
        native_grid: rows and columns of the map that was transformed.
        box: (y0, x0, y1, x1) in [0, 1] of the image.
        grid: rows and columns of the result; None is the native grid.

    Returns:
        (..., rows, columns). Coefficients above the grid's Nyquist frequency in the box are dropped, never aliased.

    Raises:
        ValueError: the box is empty or leaves the image, or the grid has no cells.
    """
    down, across = (
        torch.from_numpy(matrix).to(coefficients)
        for matrix in matrices((coefficients.shape[-2], coefficients.shape[-1]), native_grid, box=box, grid=grid)
    )
    return down @ (coefficients[..., : down.shape[1], : across.shape[1]] @ across.T)


def matrices(
    extent: Grid, native_grid: Grid, *, box: Box = WHOLE, grid: Grid | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The two matrices A (rows, u) and B (columns, v), float32, of `series`: its result is A Z B^T.

    Args:
        extent: U and V of the coefficients Z; u <= U and v <= V are those that the grid represents.
        native_grid: as for `series`.
        box: as for `series`.
        grid: as for `series`.

    Raises:
        ValueError: the box is empty or leaves the image, or the grid has no cells.
    """
    (y0, x0, y1, x1), (rows, columns) = box, grid or native_grid
    high, wide = map(min, extent, limits(native_grid, box=box, grid=grid))
    return _basis(high, native_grid[0], y0, y1, rows), _basis(wide, native_grid[1], x0, x1, columns)


def limits(native_grid: Grid, *, box: Box = WHOLE, grid: Grid | None = None) -> Grid:
    """The numbers of row and column frequencies that a grid shows in a box; arguments and errors as for `series`."""
    rows, columns = grid or native_grid
    y0, x0, y1, x1 = _checked(box)
    if min(rows, columns) < 1:
        raise ValueError(f"expected a grid of at least one row and one column, got {(rows, columns)}")
    return nyquist_limit(rows, y1 - y0, native_grid[0]), nyquist_limit(columns, x1 - x0, native_grid[1])


def _checked(box: Box) -> Box:
    y0, x0, y1, x1 = box
    if not (-1e-6 <= y0 < y1 <= 1 + 1e-6 and -1e-6 <= x0 < x1 <= 1 + 1e-6):
        raise ValueError(f"expected a box (y0, x0, y1, x1) with 0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1, got {box}")
    return box


def _basis(count: int, cells: int, start: float, stop: float, points: int) -> np.ndarray:
    """(points, count): a_u cos(pi u y) at the centres of `points` equal cells of [start, stop]."""
    if start == 0 and stop == 1:
        return _whole(count, cells, points)
    return _evaluate(count, cells, start, stop, points)


@lru_cache(maxsize=256)
def _whole(count: int, cells: int, points: int) -> np.ndarray:
    """`_basis` over the whole side, (points, count), cached."""
    return _evaluate(count, cells, 0.0, 1.0, points)


def _evaluate(count: int, cells: int, start: float, stop: float, points: int) -> np.ndarray:
    """`_basis` computed, (points, count) float32."""
    places = start + (stop - start) * (np.arange(points) + 0.5) / points
    waves = np.cos(pi * places[:, None] * np.arange(count)) * np.sqrt(2 / cells)
    waves[:, 0] = np.sqrt(1 / cells)
    return waves.astype(np.float32)
