"""Fitting a codec: statistics in float64, one map at a time, then the step, on held-out maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cache.axes import Axes, Space, mean_squares, principal_axes, split, turned_space
from cache.codec import Codec
from cache.quality import fidelity as cosine_fidelity
from cache.quantise import DEAD_ZONE, coded, quantise, shifts
from cache.series import dct, series
from cache.shells import Shells
from cache.spec import BANDS

FINEST = 0.9999
"""The largest fidelity that can be requested: 32-bit transforms and their inverses agree to little more."""


def fit(
    features: Tensor | Sequence[Tensor], *, fidelity: float, entropy: str = "laplace", shells: bool = False
) -> Codec:
    """Fits a codec to calibration maps.

    Every fourth map is held out of the statistics; the step is the largest for which the held-out maps reach the
    requested cosine. The same maps in the same order give the same codec. At least 256 maps are recommended; the codec
    records how many there were.

    Args:
        features: maps (N, C, h, w) of any float type, or a sequence of such tensors (read one map at a time, at most
            four times).
        fidelity: the requested cosine over channels, per cell, in the centred, scaled space; in (0, 0.9999].
        entropy: the entropy coder, a name of `cache.entropy.CODERS`.
        shells: whether a mean map is subtracted and each shell of frequencies has its own axes (`cache.shells`). This
            gives fewer bytes, but larger statistics and slower decoding on a fine grid.

    Raises:
        ValueError: the fidelity is out of range, a tensor does not have four dimensions, or there are fewer than two
            maps, or they do not vary or are not finite.
    """
    if not 0 < fidelity <= FINEST:
        raise ValueError(f"expected a fidelity above 0 and at most {FINEST}, such as 0.95, got {fidelity}")
    batches = [features] if isinstance(features, Tensor) else list(features)
    if odd := [tuple(batch.shape) for batch in batches if batch.ndim != 4]:
        raise ValueError(f"expected maps (N, C, h, w), got a tensor of shape {odd[0]}; torch.stack joins maps")
    if len(shapes := {tuple(batch.shape[1:]) for batch in batches}) > 1:
        raise ValueError(f"expected maps of one shape (C, h, w), got {' and '.join(map(str, sorted(shapes)[:3]))}")
    images = sum(len(batch) for batch in batches)
    if images < 2:
        raise ValueError(f"expected at least two calibration maps (256 are recommended), got {images}")
    with torch.no_grad():
        axes = principal_axes(batches)
        squares = mean_squares(batches, axes)
        space = Space(squares)
        step, cosines = _search(_HeldOut.of(batches, axes, space), fidelity)
        if shells:
            space = turned_space(batches, axes, squares, kept=int(space.used(step).sum()))
            step, cosines = _search(_HeldOut.of(batches, axes, space), fidelity)
    return _assemble(
        axes, squares, space, step=step, fidelity=fidelity, cosines=cosines, images=images, entropy=entropy
    )


@dataclass(frozen=True)
class _HeldOut:
    coefficients: list[Tensor]  # each (K, h, w), as they are coded
    components: list[Tensor]  # each (C, h, w)
    space: Space

    @classmethod
    def of(cls, batches: Sequence[Tensor], axes: Axes, space: Space) -> _HeldOut:
        """The components (C, h, w) and coefficients of the held-out maps; ValueError if one is not finite."""
        components = [axes.project(feature) for feature in split(batches, held_out=True)]
        if not all(part.isfinite().all() for part in components):  # their cosine would count as 0
            raise ValueError(
                "a held-out map holds infinite or undefined values; check the teacher's weights and images"
            )
        return cls([dct(one) for one in components], components, space)

    def cosines(self, step: float) -> np.ndarray:
        """(n,) float64: each held-out map's cosine when coded with `step` and the components that this step keeps."""
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
    """The largest step that keeps the fidelity, and its cosines (n,), by doubling and then bisection of its logarithm.

    If the mean map alone keeps the fidelity, the result is a step with which hardly anything is coded.
    """
    step = float(maps.space.variances.mean().sqrt())
    if not coded(maps.space.variances, step).any():
        raise ValueError("the calibration maps do not differ from their mean; give more and other images")
    cosines = maps.cosines(step)
    while cosines.mean() >= fidelity:
        if not coded(maps.space.variances, 2 * step).any():
            return step, cosines
        step, cosines = 2 * step, maps.cosines(2 * step)
    while cosines.mean() < fidelity:
        step, cosines = step / 2, maps.cosines(step / 2)
    if not np.isfinite(cosines).all():
        raise ValueError("the cosine of a held-out map is undefined at any step; most of its cells equal the mean map")
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
    axes: Axes,
    squares: Tensor,
    space: Space,
    *,
    step: float,
    fidelity: float,
    cosines: np.ndarray,
    images: int,
    entropy: str,
) -> Codec:
    """The codec of a space and a step; `squares` (C, h, w) of all coefficients, `cosines` (n,) of the held-out maps."""
    used, variances, shells = space.used(step), space.variances, space.shells_at(step)
    if shells:  # their axes mix all components of the space
        used = torch.ones(len(variances), dtype=torch.bool)
    kept = squares[: len(variances)][used].sum()
    gain = float((used.sum() * variances[0].numel() / kept).sqrt())
    mean, kept_mean = (one.energy(one.grid) if one else 0.0 for one in (space.shells, shells))
    lost = squares.sum() - kept + mean - kept_mean
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
