"""MicroAUNet's gated attention in fewer operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from students import microaunet
from students.attention_unet import GROUPS
from students.onnx.operators import Affine, Separable, flat, folded, like, pointwise, standardised


class GatedAttention(nn.Module):
    """LDGA, with projection and shortcut joined: each is a 1x1 depthwise convolution, a norm and a 1x1 convolution.

    Side by side they become one of each, with eight groups; the last convolution sums both.
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
