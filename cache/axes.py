"""Statistics of calibration maps: their principal components, and the variance of each coefficient of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cache.quantise import coded
from cache.series import dct
from cache.shells import Shells, rectangles, shells_of

HELD_OUT = 64
"""The largest number of held-out maps (a quarter of the recommended 256)."""


@dataclass(frozen=True)
class Axes:
    """Mean, deviation and principal axes of the channels."""

    mean: Tensor  # (C,) float32
    scale: Tensor  # (C,) float32
    basis: Tensor  # (C, C) float32, by falling variance

    def project(self, feature: Tensor) -> Tensor:
        """A map (C, h, w) of any float type -> its components (C, h, w), float32, on the CPU."""
        normal = (feature.float().cpu() - self.mean[:, None, None]) / self.scale[:, None, None]
        return (self.basis.T @ normal.flatten(1)).view_as(normal)


def split(batches: Sequence[Tensor], *, held_out: bool) -> Iterator[Tensor]:
    """The calibration maps (C, h, w) that are held out, or the others, in order."""
    images = sum(len(batch) for batch in batches)
    out = {i for i in range(images) if i % 4 == 3}
    out = set(sorted(out)[:HELD_OUT]) if out else {images - 1}
    index = 0
    for batch in batches:
        for feature in batch:
            if (index in out) == held_out:
                yield feature
            index += 1


def principal_axes(batches: Sequence[Tensor]) -> Axes:
    """Mean (C,), deviation (C,) and principal axes (C, C) of the channels over all cells of the training maps."""
    first = next(split(batches, held_out=False)).double().cpu()
    channels, cells = first.shape[0], 0
    origin = first.flatten(1).mean(1, keepdim=True)  # summing squares about it avoids cancellation
    total, squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, channels, dtype=torch.float64)
    for feature in split(batches, held_out=False):
        values = feature.double().cpu().flatten(1) - origin
        total += values.sum(1)
        squares += values @ values.T
        cells += values.shape[1]
    covariance = squares / cells - torch.outer(total, total) / cells**2
    deviation = covariance.diagonal().clamp_min(0).sqrt()
    if not torch.isfinite(deviation).all() or deviation.max() == 0:
        raise ValueError(
            "the calibration maps do not vary, or hold infinite values; check the teacher's weights and images"
        )
    scale = torch.where(deviation > 1e-6 * deviation.max(), deviation, 1.0)
    _, vectors = torch.linalg.eigh(covariance / torch.outer(scale, scale))
    return Axes((origin[:, 0] + total / cells).float(), scale.float(), _ordered(vectors).float())


def _ordered(vectors: Tensor) -> Tensor:
    """Eigenvectors (..., K, K) of `eigh` as columns by falling variance, each with its largest entry positive."""
    vectors = vectors.flip(-1)
    largest = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)


def _coefficients(batches: Sequence[Tensor], axes: Axes) -> Iterator[Tensor]:
    """The cosine coefficients (C, h, w) of each training map, float32."""
    return (dct(axes.project(feature)) for feature in split(batches, held_out=False))


def mean_squares(batches: Sequence[Tensor], axes: Axes) -> Tensor:
    """(C, h, w) float64: mean squares of the cosine coefficients over the training maps."""
    total, count = torch.zeros(()), 0
    for coefficients in _coefficients(batches, axes):
        total = total + coefficients.double().square()
        count += 1
    return total / count


@dataclass(frozen=True)
class Space:
    """The space in which the first K principal components are coded."""

    variances: Tensor  # (K, h, w) float64, of the coefficients as they are coded
    shells: Shells | None = None

    def used(self, step: float) -> Tensor:
        """(K,) bool: the components, or axes of shells, with any coefficient that a step keeps."""
        return coded(self.variances, step).flatten(1).any(1)

    def shells_at(self, step: float) -> Shells | None:
        """The shells, with a mean map that ends at the highest frequency that a step keeps."""
        if self.shells is None:
            return None
        high, wide = (int(one) + 1 for one in coded(self.variances, step).any(0).nonzero().amax(0))
        corner = shells_of(self.shells.grid)[0][1]
        center = torch.zeros_like(self.shells.center)
        inside = slice(None), slice(max(high, corner)), slice(max(wide, corner))
        center[inside] = self.shells.center[inside]
        return Shells(center, self.shells.turns)


def turned_space(batches: Sequence[Tensor], axes: Axes, squares: Tensor, *, kept: int) -> Space:
    """The space of the first `kept` components, with the mean map and axes for each shell.

    The axes of a shell are the principal axes of its coefficients minus their means, over its frequencies and all
    training maps.
    """
    grid = (squares.shape[1], squares.shape[2])
    total = torch.zeros(kept, *grid, dtype=torch.float64)
    products = torch.zeros(len(shells_of(grid)), kept, kept, dtype=torch.float64)
    count = 0
    for coefficients in _coefficients(batches, axes):
        values = coefficients[:kept].double()
        total += values
        for number, shell in enumerate(shells_of(grid)):
            products[number] += _products(values, shell)
        count += 1
    center = total / count
    own = torch.stack(
        [products[number] / count - _products(center, shell) for number, shell in enumerate(shells_of(grid))]
    )
    _, turns = torch.linalg.eigh(own)
    shells = Shells(center.float(), _ordered(turns).float().contiguous())
    variances = torch.zeros(kept, *grid, dtype=torch.float64)
    for coefficients in _coefficients(batches, axes):
        variances += shells.forward(coefficients[:kept]).double().square()
    return Space(variances / count, shells)


def _products(values: Tensor, shell: tuple[int, int]) -> Tensor:
    """(K, K): the products of coefficients (K, h, w) of each pair of components, summed over a shell's frequencies."""
    parts = [values[:, rows, columns].flatten(1) for rows, columns in rectangles(*shell)]
    return sum((part @ part.T for part in parts), torch.zeros(len(values), len(values), dtype=values.dtype))
