"""MALUNet's gated, dilated and external attention in fewer operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from students import malunet
from students.attention_unet import GROUPS
from students.onnx.operators import Affine, Separable, flat, folded, like, pointwise, standardised


class Gate(nn.Module):
    """GAU: `students.malunet.Gate`, computed over maps (N, C, H W)."""

    def __init__(self, plain: malunet.Gate) -> None:
        super().__init__()
        self.near, self.wide, self.out = Separable(plain.near), Separable(plain.wide), Separable(plain.out)
        self.shortcut = pointwise(plain.shortcut.weight, plain.shortcut.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        gated = like(self.near(x).sigmoid() * functional.gelu(self.wide(x)), x)
        return like(functional.gelu(self.out(gated)) + self.shortcut(flat(x)), x)


class DilatedAttention(nn.Module):
    """DGA: `students.malunet.DilatedAttention` with its norm folded into the 1x1 convolution."""

    def __init__(self, plain: malunet.DilatedAttention) -> None:
        super().__init__()
        self.dilated, self.gate = plain.dilated, plain.gate
        norm, conv = plain.mix[0], plain.mix[1]
        self.mix = pointwise(*folded(norm, conv))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        parts = [conv(part) for conv, part in zip(self.dilated, x.chunk(GROUPS, dim=1), strict=True)]
        return self.gate(like(functional.gelu(self.mix(standardised(flat(torch.cat(parts, dim=1))))), x))


class ExternalAttention(nn.Module):
    """EA: queries and keys as one product, values and the output convolution as another."""

    def __init__(self, plain: malunet.ExternalAttention) -> None:
        super().__init__()
        query, (out, norm) = plain.query, plain.out
        assert isinstance(out, nn.Conv2d) and isinstance(norm, nn.GroupNorm) and query.bias is not None
        keys = plain.keys.weight.detach()[..., 0]
        self.keys = pointwise(keys @ query.weight.detach()[..., 0, 0], keys @ query.bias.detach())
        self.values = pointwise(out.weight.detach()[..., 0, 0] @ plain.values.weight.detach()[..., 0])
        self.scale = Affine(norm.weight, norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        same = flat(x)
        attention = self.keys(same).softmax(dim=-1)  # over the positions
        share = 1e-9 + torch.ones(1, attention.shape[1]) @ attention  # then over the slots, over which the values sum
        read = self.scale(standardised(self.values(attention) / share))
        return like(functional.gelu(same + read), x)
