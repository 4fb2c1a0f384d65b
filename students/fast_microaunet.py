"""MicroAUNet's own parts in fewer operators; see `students.fast`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from students import microaunet
from students.attention_unet import GROUPS, pooled
from students.fast_pieces import (
    Affine,
    OneChannel,
    Separable,
    flat,
    folded,
    like,
    mean_and_max,
    pointwise,
    standardised,
)


class GatedAttention(nn.Module):
    """LDGA. Projection and shortcut are a 1x1 depthwise convolution, a norm and a 1x1 convolution each, then summed.

    Beside each other they are one of each: eight groups, and the last convolution sums.
    """

    def __init__(self, plain: microaunet.GatedAttention) -> None:
        super().__init__()
        self.refine, self.gate = Separable(plain.refine), pointwise(plain.gate.weight)
        both = [plain.project] if isinstance(plain.shortcut, nn.Identity) else [plain.project, plain.shortcut]
        self.branches = len(both)
        scales, norms, mixes = zip(*both, strict=True)
        self.scale = Affine(
            torch.cat([scale.weight.flatten() for scale in scales]), torch.cat([scale.bias for scale in scales])
        )
        weights, biases = zip(*map(folded, norms, mixes), strict=True)
        self.mix = pointwise(torch.cat(weights, dim=1), torch.stack(biases).sum(dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        refined, same = self.refine(x), flat(x)
        gated = refined * self.gate(refined).sigmoid()
        both = torch.cat([gated, same], dim=1) if self.branches == 2 else gated
        mixed = self.mix(standardised(self.scale(both), GROUPS * self.branches))
        return like(mixed if self.branches == 2 else mixed + same, x)


class Bridge(nn.Module):
    """LSCAB: x + (alpha c + beta s) x as x ((1 + alpha c) + beta s), where c is a number a channel and s a map."""

    def __init__(self, plain: microaunet.Bridge) -> None:
        super().__init__()
        self.widths, self.neighbours, self.mix = plain.widths, plain.neighbours, plain.mix
        self.spatial, self.alpha, self.beta = OneChannel(plain.spatial), plain.alpha, plain.beta

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps of `widths` channels, each at least 4x4 -> maps of the same shapes."""
        weights = self.mix(self.neighbours(pooled(maps)).squeeze(1)).sigmoid()[..., None, None]
        factors = (1 + self.alpha * weights).split(self.widths, dim=1)
        return tuple(
            x * (factor + self.beta * self.spatial(mean_and_max(x)).sigmoid())
            for x, factor in zip(maps, factors, strict=True)
        )
