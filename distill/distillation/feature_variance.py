"""Variance and effective rank of targets and projections, to detect a collapsed projection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distill.distillation.distiller import Distiller, key_of
from distill.distillation.targets import Target

FLAT = 0.01  # a projection with less than this share of its target's variance is constant
NARROW = 0.1  # a projection with less than this share of its target's effective rank varies in hardly any direction


@dataclass(frozen=True)
class FeatureVariance:
    """Variance (mean over channels, over the cells of a batch) and effective rank of a target and its projection."""

    target_variance: float
    target_rank: float
    variance: float
    rank: float
    channels: int | None = None  # of the student's level: an upper limit on the rank of a linear projection

    @property
    def collapsed(self) -> bool:
        """Whether the projection is (nearly) constant or of very low rank, although its target is not."""
        flat = self.variance < FLAT * self.target_variance
        within_reach = self.target_rank if self.channels is None else min(self.target_rank, self.channels)
        return flat or self.rank < NARROW * within_reach


def variances_of(
    distiller: Distiller,
    targets: Iterable[Target],
    *,
    projected: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
) -> dict[str, FeatureVariance]:
    """The variance of each target in a batch and of its projection (N, C, h, w), in the units of the loss terms."""
    found = {}
    for target in (target for target in targets if target.name in projected):
        wanted = batch[target.name] / target.deviation if target.band == "high" else batch[target.name]
        projection: Any = distiller.projections[key_of(target.name)]
        found[target.name] = feature_variance(projected[target.name], wanted, channels=projection.in_channels)
    return found


def feature_variance(projected: Tensor, target: Tensor, *, channels: int | None = None) -> FeatureVariance:
    """Variance and effective rank of a batch of targets (N, C, h, w) and of their projections, in the same units.

    `channels` is as in `FeatureVariance`.
    """
    (target_variance, target_rank), (variance, rank) = variance_and_rank(target), variance_and_rank(projected)
    return FeatureVariance(target_variance, target_rank, variance, rank, channels)


def variance_and_rank(maps: Tensor) -> tuple[float, float]:
    """Variance of maps (N, C, h, w), and exp of the entropy of their normalised singular values.

    The latter is the effective rank of Roy and Vetterli (2007).
    """
    cells = maps.detach().float().transpose(0, 1).flatten(1)
    cells = cells - cells.mean(dim=1, keepdim=True)
    product = cells @ cells.T
    if product.device.type == "mps":  # it has no double precision
        product = product.cpu()
    squares = torch.linalg.eigvalsh(product.double() / cells.shape[1]).clamp_min(0)
    if squares.sum() == 0:
        return 0.0, 0.0
    shares = squares.sqrt() / squares.sqrt().sum()
    rank = torch.special.entr(shares).sum().exp()
    return float(squares.mean()), float(rank)
