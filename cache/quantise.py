"""Quantisation with one uniform step and a dead zone, and the selection of the coefficients that are coded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from cache import native

DEAD_ZONE = 0.6
"""Half the width of the zero bin in steps (0.5 would be plain rounding)."""

WATER = 0.3
"""Coefficients whose expected variance is below WATER * step^2 are never coded.

DEAD_ZONE and WATER were chosen together on EfficientNet-B0 features of endoscopy images at strides 8 and 16 and
fidelities 0.90 and 0.95: around them the bytes at equal fidelity change by less than 1 %, and they are 12 to 22 % fewer
than with plain rounding of all coefficients (LOG.md).
"""

Numbers = TypeVar("Numbers", np.ndarray, Tensor)


def quantise(values: Numbers, dead_zone: float) -> Numbers:
    """Integers, as floats, of `values` (any shape) in steps: sign(x) * floor(|x| + 1 - dead_zone), at least 0."""
    if isinstance(values, np.ndarray):
        return np.sign(values) * np.floor(np.abs(values) + np.float32(1 - dead_zone))
    return values.sign() * (values.abs() + (1 - dead_zone)).floor()


def shifts(deviations: np.ndarray, dead_zone: float) -> np.ndarray:
    """(n,) float32: the reconstruction of |q| minus |q|, in steps, for coefficients of the given deviations in steps.

    The bin of q is [|q| - 1 + dead_zone, |q| + dead_zone). For a Laplacian of rate a = sqrt(2) / deviation, its
    centroid lies 1/a - 1/(e^a - 1) above the lower edge for every q. This saves 2 % of the bytes of one fitted shift.
    """
    rate = np.sqrt(2) / deviations.astype(np.float64).clip(1e-9)
    steep = rate.clip(1e-3, 50)
    centroid = np.where(rate < 1e-3, 0.5 - rate / 12, 1 / steep - 1 / np.expm1(steep))
    return (dead_zone - 1 + centroid).astype(np.float32)


def expected_errors(deviations: np.ndarray, dead_zone: float) -> np.ndarray:
    """(n,) float64: the expected squared errors, in steps squared, of coefficients of the given deviations in steps.

    For a Laplacian of rate a, the zero bin gives the integral of x^2 a e^(-ax) from 0 to the dead zone. Every other bin
    has the variance of an exponential distribution cut at 1, 1/a^2 - e^a / (e^a - 1)^2, about the centroid of `shifts`.
    """
    rate = (np.sqrt(2) / deviations.astype(np.float64).clip(1e-9)).clip(1e-3, 500)
    outside = np.exp(-rate * dead_zone)
    zero = 2 / rate**2 - outside * (dead_zone**2 + 2 * dead_zone / rate + 2 / rate**2)
    return zero + outside * (1 / rate**2 - 1 / (4 * np.sinh(rate / 2) ** 2))


@dataclass(frozen=True, eq=False)
class Band:
    """The coded coefficients of one band, by falling expected variance.

    `places` (n,) are positions in the flat (K, *extent) corner of the coefficients; `deviations` (n,) in steps.
    """

    extent: tuple[int, int]
    places: np.ndarray
    deviations: np.ndarray
    shifts: np.ndarray

    @classmethod
    def of(
        cls, variances: np.ndarray, kept: np.ndarray, *, extent: tuple[int, int], step: float, dead_zone: float
    ) -> Band:
        """The band of the coefficients `kept`, a mask like `variances` (K, h, w), all within the corner `extent`."""
        expected = np.where(kept, variances, -1)[:, : extent[0], : extent[1]].reshape(-1)
        places = np.argsort(-expected, kind="stable")[: np.count_nonzero(kept)]
        deviations = (np.sqrt(expected[places]) / np.float32(step)).astype(np.float32)
        return cls(extent, places, deviations, shifts(deviations, dead_zone))

    def integers(self, coefficients: np.ndarray, *, step: float, dead_zone: float) -> np.ndarray:
        """(K, h, w) coefficients -> (n,) int32 values of this band in coding order.

        Raises:
            ValueError: a coefficient is not finite or exceeds 2^31 steps.
        """
        high, wide = self.extent
        scaled = coefficients[:, :high, :wide].reshape(-1)[self.places] / np.float32(step)
        if not np.all(np.abs(scaled) < 2**31 - 256):
            raise ValueError(
                "a feature map holds infinite, undefined or absurdly large values; check the teacher's output"
            )
        return quantise(scaled, dead_zone).astype(np.int32)

    def coefficients(self, integers: np.ndarray, *, step: float, components: int) -> np.ndarray:
        """The reconstruction of `integers` (n,) as float32 coefficients (K, *extent), zero where nothing is coded."""
        result = np.zeros((components, *self.extent), np.float32)
        if native.library:
            native.place(integers, shifts=self.shifts, places=self._short_places, step=step, out=result)
            return result
        values = integers.astype(np.float32)
        result.reshape(-1)[self.places] = (values + np.sign(values) * self.shifts) * np.float32(step)
        return result

    def restore(self, integers: Tensor, *, step: float, components: int) -> Tensor:
        """`coefficients` for a batch on any device, the same bits: `integers` (N, n) -> float32 (N, K, *extent)."""
        places, shifts = self._on(integers.device)
        values = integers.float()
        result = values.new_zeros(len(values), components * self.extent[0] * self.extent[1])
        result[:, places] = (values + values.sign() * shifts) * step
        return result.unflatten(1, (components, *self.extent))

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """`places` and `shifts` on a device, copied once."""
        if device not in self._copies:
            self._copies[device] = torch.from_numpy(self.places).to(device), torch.from_numpy(self.shifts).to(device)
        return self._copies[device]

    @cached_property
    def _copies(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    @cached_property
    def _short_places(self) -> np.ndarray:
        return self.places.astype(np.int32)


def coded(variances: Numbers, step: float) -> Numbers:
    """The bool mask of the coefficients above the water level, in the shape of `variances`, which may be any."""
    return variances > WATER * step**2
