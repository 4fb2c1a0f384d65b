"""The one geometric frame: every map a teacher returns covers exactly the image.

Cell (i, j) of an h x w map is centred at ((i + 1/2) / h, (j + 1/2) / w) in (y, x) of the image. A network that pads its
input (SAM fills a square) computes a larger map, in which the image covers only the first `valid` fraction of rows and
columns. That border usually falls inside a cell. `resample` cuts exactly at the border and lays the spec's grid over
the part that the image covers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def resample(features: Tensor, valid: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cuts each map at the exact border of its image and samples the grid's cell centres from the rest.

    The filter is bilinear, widened to the size of a target cell if the grid is coarser than the map (the triangle
    filter of Pillow and of `torch.nn.functional.interpolate(antialias=True)`). Each source cell is weighted by the
    share of its area that the image covers (normalised convolution, Knutsson and Westin 1993), so padding never
    contributes and the result changes continuously with the border. If `valid` is 1 and the grid is the map's own,
    the values are returned unchanged, bit for bit.

    Args:
        features: finite float tensor (N, C, H, W), computed from padded images.
        valid: float tensor (N, 2), fractions in (0, 1] of H and W that the image covers, from the top left.
        grid: (rows, columns) of the result.

    Returns:
        float tensor (N, C, rows, columns) in the dtype and on the device of `features`.

    Raises:
        ValueError: if a fraction is not in (0, 1], or `valid` does not fit `features`.
    """
    if valid.shape != (features.shape[0], 2):
        raise ValueError(
            f"expected valid fractions of shape ({features.shape[0]}, 2), one pair an image, got {tuple(valid.shape)}"
        )
    if not bool(((valid > 0) & (valid <= 1)).all()):
        raise ValueError(f"expected valid fractions in (0, 1], got {valid.tolist()}")
    cells = features.shape[-2:]
    if tuple(cells) == tuple(grid) and bool((valid == 1).all()):
        return features
    rows, columns = (sampling_weights(valid[:, axis], cells[axis], grid[axis]) for axis in (0, 1))
    if not _is_identity(rows):
        features = torch.einsum("niy,ncyx->ncix", rows.to(features), features)
    if not _is_identity(columns):
        features = torch.einsum("njx,ncyx->ncyj", columns.to(features), features)
    return features


def sampling_weights(valid: Tensor, cells: int, targets: int) -> Tensor:
    """The weight of each source cell in each target cell along one axis.

    Args:
        valid: float tensor (N,), fractions in (0, 1] of the axis that the image covers, from its start.
        cells: number of source cells on the whole axis.
        targets: number of target cells on the part that the image covers.

    Returns:
        float64 tensor (N, targets, cells) on the CPU; rows sum to 1. Cells that the image does not touch have weight 0.
    """
    covered = valid.detach().to("cpu", torch.float64)[:, None] * cells  # (N, 1), in source cells
    index = torch.arange(cells, dtype=torch.float64)
    share = (covered - index).clamp(0, 1)  # (N, cells): how much of each cell lies in the image
    width = covered / targets  # source cells that a target cell spans
    position = (torch.arange(targets, dtype=torch.float64) + 0.5) * width - 0.5  # (N, targets), in source indices
    distance = (position[:, :, None] - index).abs()
    triangle = (1 - distance / width.clamp(min=1)[:, :, None]).clamp(min=0)
    weights = triangle * share[:, None, :]
    return weights / weights.sum(-1, keepdim=True)


def _is_identity(weights: Tensor) -> bool:
    """True if every matrix (targets, cells) of the batch is the identity."""
    targets, cells = weights.shape[1:]
    return targets == cells and bool((weights == torch.eye(cells, dtype=weights.dtype)).all())
