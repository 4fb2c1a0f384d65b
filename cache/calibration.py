"""Fitting a codec: statistics in float64 over one map at a time, then the step on maps that were held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cache.codec import Codec
from cache.quality import fidelity as cosine_fidelity
from cache.quantise import DEAD_ZONE, coded, quantise, shifts
from cache.series import dct, series
from cache.shells import Shells, rectangles, shells_of
from cache.spec import BANDS

FINEST = 0.9999
"""The largest fidelity that can be requested: 32-bit transforms and their inverses agree to little more."""

HELD_OUT = 64
"""At most so many maps are held out (a quarter of the 256 that are recommended)."""


def fit(
    features: Tensor | Sequence[Tensor], *, fidelity: float, entropy: str = "laplace", shells: bool = False
) -> Codec:
    """Fit a codec to calibration maps.

    Every fourth map is held out of the statistics; the step is the largest for which the held-out maps reach the
    requested cosine. The same maps in the same order give the same codec. At least 256 maps are recommended; the codec
    records how many there were.

    Args:
        features: maps (N, C, h, w) of any float type, or a sequence of such tensors (read one map at a time, at most
            four times).
        fidelity: the requested cosine over channels, per cell, in the centred, scaled space; in (0, 0.9999].
        entropy: the entropy coder, a name of `cache.entropy.CODERS`.
        shells: whether a mean map is subtracted and each shell of frequency has axes of its own (`cache.shells`): fewer
            bytes, larger statistics, and more work to decode on a fine grid.

    Raises:
        ValueError: the fidelity is out of range, there are fewer than two maps, they do not vary, or are not finite.
    """
    if not 0 < fidelity <= FINEST:
        raise ValueError(f"expected a fidelity above 0 and at most {FINEST}, such as 0.95, got {fidelity}")
    batches = [features] if isinstance(features, Tensor) else list(features)
    images = sum(len(batch) for batch in batches)
    if images < 2:
        raise ValueError(f"expected at least two calibration maps (256 are recommended), got {images}")
    with torch.no_grad():
        axes = _axes(batches)
        squares = _squares(batches, axes)
        space = _Space(squares)
        step, cosines = _search(_HeldOut.of(batches, axes, space), fidelity)
        if shells:
            space = _turned(batches, axes, squares, kept=int(space.used(step).sum()))
            step, cosines = _search(_HeldOut.of(batches, axes, space), fidelity)
    return _assemble(
        axes, squares, space, step=step, fidelity=fidelity, cosines=cosines, images=images, entropy=entropy
    )


@dataclass(frozen=True)
class _Axes:
    mean: Tensor  # (C,) float32
    scale: Tensor  # (C,) float32
    basis: Tensor  # (C, C) float32, by falling variance

    def project(self, feature: Tensor) -> Tensor:
        """A map (C, h, w) of any float type -> its components (C, h, w), float32, on the CPU."""
        normal = (feature.float().cpu() - self.mean[:, None, None]) / self.scale[:, None, None]
        return (self.basis.T @ normal.flatten(1)).view_as(normal)


def _split(batches: Sequence[Tensor], *, held_out: bool) -> Iterator[Tensor]:
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


def _axes(batches: Sequence[Tensor]) -> _Axes:
    """Mean (C,), deviation (C,) and principal axes (C, C) of the channels over all cells of the training maps."""
    first = next(_split(batches, held_out=False)).double().cpu()
    channels, cells = first.shape[0], 0
    origin = first.flatten(1).mean(1, keepdim=True)  # summing squares about it avoids cancellation
    total, squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, channels, dtype=torch.float64)
    for feature in _split(batches, held_out=False):
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
    return _Axes((origin[:, 0] + total / cells).float(), scale.float(), _ordered(vectors).float())


def _ordered(vectors: Tensor) -> Tensor:
    """Eigenvectors (..., K, K) of `eigh` as columns by falling variance, the largest entry of each positive."""
    vectors = vectors.flip(-1)
    largest = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)


def _coefficients(batches: Sequence[Tensor], axes: _Axes) -> Iterator[Tensor]:
    """The cosine coefficients (C, h, w) of each training map, float32."""
    return (dct(axes.project(feature)) for feature in _split(batches, held_out=False))


def _squares(batches: Sequence[Tensor], axes: _Axes) -> Tensor:
    """(C, h, w) float64: mean squares of the cosine coefficients over the training maps."""
    total, count = torch.zeros(()), 0
    for coefficients in _coefficients(batches, axes):
        total = total + coefficients.double().square()
        count += 1
    return total / count


@dataclass(frozen=True)
class _Space:
    """The space in which the first K principal components are coded."""

    variances: Tensor  # (K, h, w) float64, of what is coded
    shells: Shells | None = None

    @property
    def center_energy(self) -> float:
        """The squares of the mean map; 0 without one."""
        return self.shells.energy(self.shells.grid) if self.shells else 0.0

    def used(self, step: float) -> Tensor:
        """(K,) bool: the components, or axes of shells, of which a step keeps any coefficient."""
        return coded(self.variances, step).flatten(1).any(1)

    def shells_at(self, step: float) -> Shells | None:
        """The shells with the mean map of the frequencies up to the highest that a step keeps."""
        if self.shells is None:
            return None
        high, wide = (int(one) + 1 for one in coded(self.variances, step).any(0).nonzero().amax(0))
        corner = shells_of(self.shells.grid)[0][1]
        center = torch.zeros_like(self.shells.center)
        inside = slice(None), slice(max(high, corner)), slice(max(wide, corner))
        center[inside] = self.shells.center[inside]
        return Shells(center, self.shells.turns)


def _turned(batches: Sequence[Tensor], axes: _Axes, squares: Tensor, *, kept: int) -> _Space:
    """The space of the mean map and the axes of each shell of the `kept` first components.

    The axes are the principal ones of the coefficients of a shell less their means, over its frequencies and all
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
    return _Space(variances / count, shells)


def _products(values: Tensor, shell: tuple[int, int]) -> Tensor:
    """(K, K): the products of coefficients (K, h, w) of each two components, summed over the frequencies of a shell."""
    parts = [values[:, rows, columns].flatten(1) for rows, columns in rectangles(*shell)]
    return sum((part @ part.T for part in parts), torch.zeros(len(values), len(values), dtype=values.dtype))


@dataclass(frozen=True)
class _HeldOut:
    coefficients: list[Tensor]  # each (K, h, w), as they are coded
    components: list[Tensor]  # each (C, h, w)
    space: _Space

    @classmethod
    def of(cls, batches: Sequence[Tensor], axes: _Axes, space: _Space) -> _HeldOut:
        """The components (C, h, w) and coefficients of the held-out maps; ValueError if one is not finite."""
        components = [axes.project(feature) for feature in _split(batches, held_out=True)]
        if not all(part.isfinite().all() for part in components):  # their cosine would count as 0
            raise ValueError(
                "a held-out map holds infinite or undefined values; check the teacher's weights and images"
            )
        return cls([dct(one) for one in components], components, space)

    def cosines(self, step: float) -> np.ndarray:
        """(n,) float64: each held-out map's cosine when coded with `step`, on as many components as that step keeps."""
        variances, shells = self.space.variances, self.space.shells_at(step)
        kept, used = coded(variances, step), self.space.used(step)
        beyond = torch.from_numpy(shifts((variances[used].sqrt() / step).numpy(), DEAD_ZONE))
        cosines = []
        for coefficients, components in zip(self.coefficients, self.components, strict=True):
            values = shells.forward(coefficients[: len(variances)]) if shells else coefficients
            integers = quantise(values[used] / step, DEAD_ZONE) * kept[used]
            found = (integers + integers.sign() * beyond) * step
            if shells:
                whole = torch.zeros_like(values)
                whole[used] = found
                found = shells.back(whole, BANDS, axes=shells.axes(kept))
            decoded = series(found, (components.shape[1], components.shape[2]))
            products = (components[: len(variances)] if shells else components[used]).mul(decoded).sum(0)
            norms, channels = components.norm(dim=0), components.shape[0]
            cosines.append(cosine_fidelity(products, norms, decoded.norm(dim=0), channels=channels).item())
        return np.array(cosines)


def _search(maps: _HeldOut, fidelity: float) -> tuple[float, np.ndarray]:
    """The largest step that keeps the fidelity, by doubling and then bisection of its logarithm; its cosines (n,).

    Where a mean map alone keeps it, a step with which hardly anything is coded.
    """
    step = float(maps.space.variances.mean().sqrt())
    cosines = maps.cosines(step)
    while cosines.mean() >= fidelity:
        if not coded(maps.space.variances, 2 * step).any():
            return step, cosines
        step, cosines = 2 * step, maps.cosines(2 * step)
    while cosines.mean() < fidelity:
        step, cosines = step / 2, maps.cosines(step / 2)
    too_large = 2 * step
    while cosines.mean() > fidelity + 2e-4 and too_large / step > 1.001:
        between = float(np.sqrt(step * too_large))
        tried = maps.cosines(between)
        if tried.mean() >= fidelity:
            step, cosines = between, tried
        else:
            too_large = between
    return step, cosines


def _assemble(
    axes: _Axes,
    squares: Tensor,
    space: _Space,
    *,
    step: float,
    fidelity: float,
    cosines: np.ndarray,
    images: int,
    entropy: str,
) -> Codec:
    """The codec of a space and a step; `squares` (C, h, w) of all coefficients, `cosines` (n,) of the held-out maps."""
    used, variances, shells = space.used(step), space.variances, space.shells_at(step)
    if shells:  # whose axes are of all components of the space
        used = torch.ones(len(variances), dtype=torch.bool)
    kept = squares[: len(variances)][used].sum()
    gain = float((used.sum() * variances[0].numel() / kept).sqrt())
    lost = squares.sum() - kept + space.center_energy - (shells.energy(shells.grid) if shells else 0)
    return Codec(
        mean=axes.mean,
        scale=axes.scale,
        basis=axes.basis[:, : len(variances)][:, used].contiguous(),
        variances=(variances[used] * gain**2).float(),
        gain=gain,
        step=step * gain,
        dead_zone=DEAD_ZONE,
        lost=float(lost) * gain**2,
        asked=fidelity,
        reached=float(cosines.mean()),
        spread=float(cosines.std()),
        held_out=len(cosines),
        images=images,
        entropy=entropy,
        shells=Shells(shells.center * gain, shells.turns) if shells else None,
    )
