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

FINEST = 0.9999
"""The largest fidelity that can be requested: 32-bit transforms and their inverses agree to little more."""

HELD_OUT = 64
"""At most so many maps are held out (a quarter of the 256 that are recommended)."""


def fit(features: Tensor | Sequence[Tensor], *, fidelity: float, entropy: str = "laplace") -> Codec:
    """Fit a codec to calibration maps.

    Every fourth map is held out of the statistics; the step is the largest for which the held-out maps reach the
    requested cosine. The same maps in the same order give the same codec. At least 256 maps are recommended; the codec
    records how many there were.

    Args:
        features: maps (N, C, h, w) of any float type, or a sequence of such tensors (read one map at a time, thrice).
        fidelity: the requested cosine over channels, per cell, in the centred, scaled space; in (0, 0.9999].
        entropy: the entropy coder, a name of `cache.entropy.CODERS`.

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
        variances = _variances(batches, axes)
        step, cosines = _search(_HeldOut.of(batches, axes, variances), fidelity)
    return _assemble(axes, variances, step=step, fidelity=fidelity, cosines=cosines, images=images, entropy=entropy)


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
    vectors = vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    basis = vectors * torch.where(largest < 0, -1.0, 1.0)
    return _Axes((origin[:, 0] + total / cells).float(), scale.float(), basis.float())


def _variances(batches: Sequence[Tensor], axes: _Axes) -> Tensor:
    """(C, h, w) float64: mean squares of the cosine coefficients over the training maps."""
    total, count = torch.zeros(()), 0
    for feature in _split(batches, held_out=False):
        total = total + dct(axes.project(feature)).double().square()
        count += 1
    return total / count


@dataclass(frozen=True)
class _HeldOut:
    coefficients: list[Tensor]  # each (C, h, w)
    components: list[Tensor]  # each (C, h, w)
    variances: Tensor  # (C, h, w) float64

    @classmethod
    def of(cls, batches: Sequence[Tensor], axes: _Axes, variances: Tensor) -> _HeldOut:
        """The components (C, h, w) and coefficients of the held-out maps; ValueError if one is not finite."""
        components = [axes.project(feature) for feature in _split(batches, held_out=True)]
        if not all(part.isfinite().all() for part in components):  # their cosine would count as 0
            raise ValueError(
                "a held-out map holds infinite or undefined values; check the teacher's weights and images"
            )
        return cls([dct(c) for c in components], components, variances)

    def cosines(self, step: float) -> np.ndarray:
        """(n,) float64: each held-out map's cosine when coded with `step`, on as many components as that step keeps."""
        kept = coded(self.variances, step)
        used = kept.flatten(1).any(1)
        beyond = torch.from_numpy(shifts((self.variances[used].sqrt() / step).numpy(), DEAD_ZONE))
        cosines = []
        for coefficients, components in zip(self.coefficients, self.components, strict=True):
            integers = quantise(coefficients[used] / step, DEAD_ZONE) * kept[used]
            decoded = series((integers + integers.sign() * beyond) * step, (components.shape[1], components.shape[2]))
            products = (components[used] * decoded).sum(0)
            norms, channels = components.norm(dim=0), components.shape[0]
            cosines.append(cosine_fidelity(products, norms, decoded.norm(dim=0), channels=channels).item())
        return np.array(cosines)


def _search(maps: _HeldOut, fidelity: float) -> tuple[float, np.ndarray]:
    """The largest step that keeps the fidelity, by doubling and then bisection of its logarithm; its cosines (n,)."""
    step = float(maps.variances.mean().sqrt())
    cosines = maps.cosines(step)
    while cosines.mean() >= fidelity:
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
    axes: _Axes, variances: Tensor, *, step: float, fidelity: float, cosines: np.ndarray, images: int, entropy: str
) -> Codec:
    """The codec of the components that a step keeps; `variances` (C, h, w), `cosines` (n,) of the held-out maps."""
    used = coded(variances, step).flatten(1).any(1)
    cells = variances[0].numel()
    gain = float((used.sum() * cells / variances[used].sum()).sqrt())
    return Codec(
        mean=axes.mean,
        scale=axes.scale,
        basis=axes.basis[:, used].contiguous(),
        variances=(variances[used] * gain**2).float(),
        gain=gain,
        step=step * gain,
        dead_zone=DEAD_ZONE,
        lost=float(variances[~used].sum()) * gain**2,
        asked=fidelity,
        reached=float(cosines.mean()),
        spread=float(cosines.std()),
        held_out=len(cosines),
        images=images,
        entropy=entropy,
    )
