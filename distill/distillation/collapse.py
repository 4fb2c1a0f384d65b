"""A guard against collapse: how much targets and projections vary, and in how many directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLAT = 0.01  # a projection with less than this share of its target's variance gives the same answer everywhere
NARROW = 0.1  # one with less than this share of its target's effective rank varies in next to no direction


@dataclass(frozen=True)
class Spread:
    """Variance (mean over channels, over the cells of a batch) and effective rank of a target and its projection."""

    target_variance: float
    target_rank: float
    variance: float
    rank: float
    scaled: bool = True  # whether the terms that compare them know a scale; one on cosines alone does not
    channels: int | None = None  # of the student's level, beyond which the rank of a linear projection cannot go

    @property
    def collapsed(self) -> bool:
        """Whether the projection says (nearly) the same everywhere although its target does not."""
        flat = self.scaled and self.variance < FLAT * self.target_variance
        within_reach = self.target_rank if self.channels is None else min(self.target_rank, self.channels)
        return flat or self.rank < NARROW * within_reach


def spread(projected: Tensor, target: Tensor, *, scaled: bool = True, channels: int | None = None) -> Spread:
    """The spread of a batch of targets (N, C, h, w) and of what the student says of them, in the same units.

    `scaled` and `channels` are those of `Spread`.
    """
    (target_variance, target_rank), (variance, rank) = _spread(target), _spread(projected)
    return Spread(target_variance, target_rank, variance, rank, scaled, channels)


def _spread(maps: Tensor) -> tuple[float, float]:
    """Variance, and exp of the entropy of the normalised singular values (Roy and Vetterli, 2007), of (N, C, h, w)."""
    cells = maps.detach().float().transpose(0, 1).flatten(1)
    cells = cells - cells.mean(dim=1, keepdim=True)
    product = cells @ cells.T
    if product.device.type == "mps":  # which has no double precision
        product = product.cpu()
    squares = torch.linalg.eigvalsh(product.double() / cells.shape[1]).clamp_min(0)
    if squares.sum() == 0:
        return 0.0, 0.0
    shares = squares.sqrt() / squares.sqrt().sum()
    rank = torch.special.entr(shares).sum().exp()
    return float(squares.mean()), float(rank)
