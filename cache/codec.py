"""The frequency code of one map: principal axes, cosine transform, one step, two bands, entropy-coded."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cache.entropy import Coder, coder
from cache.quality import fidelity as cosine_fidelity
from cache.quantise import Band, Numbers, coded, expected_errors
from cache.schema import SHELL_TENSORS, check_codec, parse, parse_header
from cache.series import WHOLE, Box, Grid, cutoff, dct, limits, series
from cache.shells import Shells
from cache.spec import BANDS

Code = dict[str, bytes]
_KEY = "bandpass-codec"


@dataclass(frozen=True, eq=False)
class Codec:
    """A codec of maps of shape (C, h, w): immutable, picklable, and bit for bit the same after saving and loading.

    The coded space is that of the K principal components of the centred, scaled channels, multiplied by one number so
    that the mean variance over these components is 1 in the training statistics.

    Attributes:
        mean: (C,) float32, mean of each channel.
        scale: (C,) float32, standard deviation of each channel.
        basis: (C, K) float32, orthonormal principal axes as columns, each with its largest entry positive.
        variances: (K, h, w) float32, expected squares of the cosine coefficients in the coded space, as they are coded.
        gain: the number that makes the mean variance 1.
        step: the quantiser's step in the coded space.
        dead_zone: half the width of the zero bin, in steps.
        lost: summed expected squares, in the coded space, of the components that are not kept.
        asked: the requested fidelity.
        reached: the fidelity on the held-out calibration maps.
        spread: the standard deviation of the fidelity of one held-out map.
        held_out: how many maps were held out.
        images: how many calibration maps there were, the held-out ones included.
        entropy: the name of the entropy coder.
        shells: the mean map and axes in which coefficients are coded; None in format 1, which has neither.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor
    variances: Tensor
    gain: float
    step: float
    dead_zone: float
    lost: float
    asked: float
    reached: float
    spread: float
    held_out: int
    images: int
    entropy: str
    shells: Shells | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Codec.from_bytes, (self.to_bytes(),)  # without derived attributes: coders cannot be pickled

    @property
    def components(self) -> int:
        """K, the number of principal components kept; at most C."""
        return self.basis.shape[1]

    @property
    def grid(self) -> Grid:
        """Rows and columns of the native grid."""
        return self.variances.shape[1], self.variances.shape[2]

    @property
    def cutoff(self) -> int:
        """2r: the low band is max(u, v) < cutoff."""
        return cutoff(self.grid)

    @cached_property
    def bands(self) -> dict[str, Band]:
        """The coded coefficients of each band in coding order, by name."""
        variances = self.variances.numpy()
        kept = coded(variances, self.step)
        low = np.zeros_like(kept)
        corner = (min(self.cutoff, self.grid[0]), min(self.cutoff, self.grid[1]))
        low[:, : corner[0], : corner[1]] = True
        used = np.argwhere(kept.any(0)).max(0) + 1
        whole = (max(corner[0], int(used[0])), max(corner[1], int(used[1])))
        return {
            name: Band.of(variances, kept & mask, extent=extent, step=self.step, dead_zone=self.dead_zone)
            for name, mask, extent in (("low", low, corner), ("high", ~low, whole))
        }

    @cached_property
    def coders(self) -> dict[str, Coder]:
        """The entropy coder of each band."""
        return {name: coder(self.entropy, band.deviations) for name, band in self.bands.items()}

    @cached_property
    def band_deviation(self) -> dict[str, float]:
        """The expected root mean square of each band over components and cells of the native grid, in the coded space.

        Only coded coefficients count, as in a decoded map; it is 0.0 for a band without any.
        """
        return {band: float(np.sqrt(self._energy(band, self.grid) / self.variances.numel())) for band in BANDS}

    @cached_property
    def expected_error(self) -> float:
        """The expected squared error of a decoded map, summed over the K kept components and all cells (coded space).

        Each coefficient is assumed to be Laplacian; components that are not kept (`lost`) are not included.
        """
        coded_error, coded_energy = 0.0, 0.0
        for band in self.bands.values():
            coded_error += float(expected_errors(band.deviations, self.dead_zone).sum()) * self.step**2
            coded_energy += float((band.deviations.astype(np.float64) ** 2).sum()) * self.step**2
        return coded_error + float(self.variances.double().sum()) - coded_energy

    def energies(self) -> dict[str, float]:
        """The expected squares, summed over the coded coefficients of each band, and over all others as "not coded".

        "not coded" includes the components that are not kept.
        """
        energies = {band: self._energy(band, self.grid) for band in BANDS}
        mean = self.shells.energy(self.grid) if self.shells else 0.0
        whole = float(self.variances.double().sum()) + mean + self.lost
        return {**energies, "not coded": whole - sum(energies.values())}

    def _energy(self, band: str, grid: Grid) -> float:
        used = self.bands[band]
        _, u, v = np.unravel_index(used.places, (self.components, *used.extent))
        squares = (used.deviations.astype(np.float64) * self.step) ** 2
        energy = float(squares[(u < grid[0]) & (v < grid[1])].sum())
        if self.shells:
            low = self.shells.energy((min(grid[0], self.cutoff), min(grid[1], self.cutoff)))
            energy += low if band == "low" else self.shells.energy(grid) - low
        return energy

    def project(self, features: Tensor) -> Tensor:
        """Raw teacher maps (..., C, h, w) -> principal components (..., K, h, w) in the coded space, float32."""
        return self._project(self._normalise(features))

    def inverse(self, components: Tensor) -> Tensor:
        """Principal components (..., K, h, w) -> raw teacher maps (..., C, h, w); for reports, not for losses."""
        back = (self.scale[:, None] * self.basis / self.gain).to(components)
        return _mix(back, components) + self.mean.to(components)[:, None, None]

    def _normalise(self, features: Tensor) -> Tensor:
        """Raw maps (..., C, h, w) -> the same, centred and scaled by channel, float32; ValueError for another shape."""
        shape = (len(self.mean), *self.grid)
        if tuple(features.shape[-3:]) != shape:
            raise ValueError(
                f"expected features of shape (..., {shape[0]}, {shape[1]}, {shape[2]}), got {tuple(features.shape)}"
            )
        features = features.to(torch.float32)
        return (features - self.mean.to(features)[:, None, None]) / self.scale.to(features)[:, None, None]

    def _project(self, normal: Tensor) -> Tensor:
        """Normalised maps (..., C, h, w) -> principal components (..., K, h, w)."""
        return _mix((self.basis.T * self.gain).to(normal), normal)

    def encode(self, feature: Tensor) -> Code:
        """Codes one raw teacher map (C, h, w) of any float type.

        Raises:
            ValueError: the shape is not the codec's, or a value is infinite or undefined.
        """
        _require_one(feature)
        with torch.no_grad():
            integers = self._integers(self.project(feature))
        return {name: self.coders[name].encode(values) for name, values in integers.items()}

    def encode_with_fidelity(self, feature: Tensor) -> tuple[Code, float]:
        """`encode` of a map (C, h, w), and the `fidelity` of the code at little extra cost; same errors."""
        _require_one(feature)
        with torch.no_grad():
            normal = self._normalise(feature)
            components = self._project(normal)
            integers = self._integers(components)
            decoded = series(self._whole(integers), self.grid)
            reached = self._fidelity(normal.cpu(), components.cpu(), decoded)
        return {name: self.coders[name].encode(values) for name, values in integers.items()}, reached

    def _integers(self, components: Tensor) -> dict[str, np.ndarray]:
        """{band: int32 (n,)}: the quantised coefficients of components (K, h, w) in coding order."""
        coefficients = dct(components)
        values = (self.shells.forward(coefficients) if self.shells else coefficients).cpu().numpy()
        return {
            name: band.integers(values, step=self.step, dead_zone=self.dead_zone) for name, band in self.bands.items()
        }

    def encode_batch(self, features: Tensor) -> list[Code]:
        """Codes raw teacher maps (N, C, h, w) one by one: the bytes do not depend on the batch."""
        return [self.encode(feature) for feature in features]

    def coefficients(self, code: Mapping[str, bytes], band: str = "all", *, under: Grid | None = None) -> Tensor:
        """The cosine coefficients (K, U, V) of a code, float32, in the coded space.

        The low band has U = V = cutoff. The high band, and both bands together, have the rows and columns in which any
        coefficient is coded. With `under`, only the rows and columns below these two numbers are returned.
        """
        return self._whole(self.read_integers(code, band), under)

    def read_integers(self, code: Mapping[str, bytes], band: str = "all") -> dict[str, np.ndarray]:
        """The quantised coefficients (n,) of each band of a code in coding order, int8, or int32 if necessary."""
        if band not in ("all", *BANDS):
            raise ValueError(f"unknown band {band!r}; choose from all, low, high")
        names = BANDS if band == "all" else (band,)
        for name in names:
            if name not in code:
                raise ValueError(
                    f"the {name} band was not read, only {sorted(code)}; read the record with bands=('low', 'high')"
                )
        return {name: self.coders[name].decode(code[name]) for name in names}

    def restore(self, integers: Mapping[str, Tensor]) -> Tensor:
        """`coefficients` of many codes at once, on any device: `integers` (N, n) of each band -> (N, K, U, V)."""
        parts = {
            name: self.bands[name].restore(values, step=self.step, components=self.components)
            for name, values in integers.items()
        }
        return self._turned_back(_joined(parts), integers)

    def _whole(self, integers: Mapping[str, np.ndarray], under: Grid | None = None) -> Tensor:
        """The coefficients (K, U, V) of one band or both, float32, from their integers (n,)."""
        parts = {
            name: self.bands[name].coefficients(values, step=self.step, components=self.components)
            for name, values in integers.items()
        }
        high, wide = under or self.grid
        return self._turned_back(torch.from_numpy(_joined(parts))[:, :high, :wide], integers)

    def _turned_back(self, values: Tensor, bands: Collection[str]) -> Tensor:
        """The coefficients (..., K, U, V) from those of some bands as they are coded."""
        return self.shells.back(values, bands, axes=self._axes) if self.shells else values

    @cached_property
    def _axes(self) -> tuple[int, ...]:
        """The number of axes of each shell that are coded."""
        return self.shells.axes(coded(self.variances, self.step)) if self.shells else ()

    def decode(
        self, code: Mapping[str, bytes], *, box: Box = WHOLE, grid: Grid | None = None, band: str = "all"
    ) -> Tensor:
        """The principal components (K, rows, columns) of a code over a box of the image, float32, in the coded space.

        Args:
            code: as from `encode`; for band="low" the low entry is enough.
            box: (y0, x0, y1, x1) in [0, 1] of the image under its view.
            grid: rows and columns of the result; None is the native grid. Frequencies above its Nyquist limit are
                dropped, not aliased.
            band: "all", "low" or "high"; on one grid and box, low + high = all.
        """
        seen = limits(self.grid, box=box, grid=grid)
        return series(self.coefficients(code, band, under=seen), self.grid, box=box, grid=grid)

    def fidelity(self, features: Tensor, codes: Sequence[Mapping[str, bytes]]) -> float:
        """The mean cosine between cells of raw maps (N, C, h, w) and their decoded codes; of whole maps if C = 1.

        It is computed over all channels, centred and scaled, so components that are not kept count as lost.
        """
        cosines = []
        for feature, code in zip(features, codes, strict=True):
            normal = self._normalise(feature).cpu()
            cosines.append(self._fidelity(normal, self._project(normal), self.decode(code)))
        return sum(cosines) / len(cosines)

    def _fidelity(self, normal: Tensor, components: Tensor, decoded: Tensor) -> float:
        """The fidelity of a map: `normal` (C, h, w), `components` and `decoded` (K, h, w)."""
        products = (components * decoded).sum(0)
        norms = normal.norm(dim=0) * self.gain
        return cosine_fidelity(products, norms, decoded.norm(dim=0), channels=len(self.mean)).item()

    def to_bytes(self) -> bytes:
        """The codec as a safetensors file."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "shells"}
        values |= {} if self.shells is None else {name: getattr(self.shells, name) for name in SHELL_TENSORS}
        tensors = {name: value.contiguous() for name, value in values.items() if isinstance(value, Tensor)}
        numbers = {name: value for name, value in values.items() if name not in tensors}
        return safetensors.torch.save(tensors, {_KEY: json.dumps(numbers, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Codec:
        """The inverse of `to_bytes`; if the bytes are not a codec, a ValueError names the field."""
        places, metadata = parse_header(data[8 : 8 + int.from_bytes(data[:8], "little")])
        text = metadata.get(_KEY)
        numbers: Any = parse(text) if isinstance(text, str) else None
        check_codec(places, numbers)
        try:
            tensors: dict[str, Any] = safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise ValueError(f"its tensors are damaged: {error}") from error
        # Cloned: the matrix products of some libraries depend on how their operands are aligned in memory.
        tensors = {name: value.clone() for name, value in tensors.items()}
        turned = {name: tensors.pop(name) for name in SHELL_TENSORS if name in tensors}
        codec = cls(**tensors, **numbers, shells=Shells(**turned) if turned else None)
        _check_values(codec)
        return codec


def _check_values(codec: Codec) -> None:
    """Raises ValueError unless all values are finite, scales positive, variances not negative, and one is coded."""
    turned = (codec.shells.center, codec.shells.turns) if codec.shells else ()
    if not all(value.isfinite().all() for value in (codec.mean, codec.scale, codec.basis, codec.variances, *turned)):
        raise ValueError("expected finite mean, scale, basis and variances, and finite center and turns if present")
    if not (codec.scale > 0).all() or (codec.variances < 0).any():
        raise ValueError("expected positive scales and non-negative variances")
    if not coded(codec.variances, codec.step).any():
        raise ValueError(f"no variance is large enough to be coded with the step {codec.step:g}")


def _require_one(feature: Tensor) -> None:
    if feature.ndim != 3:
        raise ValueError(f"expected one map (C, h, w), got {tuple(feature.shape)}; encode_batch codes several")


def _joined(parts: Mapping[str, Numbers]) -> Numbers:
    """The coefficients (..., U, V) of one band, or of both: the low band is written into the high one."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    low, high = parts["low"], parts["high"]
    high[..., : low.shape[-2], : low.shape[-1]] = low
    return high


def _mix(matrix: Tensor, maps: Tensor) -> Tensor:
    """(A, B) matrix over the channels of (..., B, h, w) -> (..., A, h, w)."""
    return (matrix @ maps.flatten(-2)).unflatten(-1, maps.shape[-2:])
