"""MALUNet (Ruan et al., 2022), MicroAUNet's teacher: dilated gated attention and external attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from students.attention_unet import (
    GROUPS,
    STRIDES,
    Decoder,
    Encoder,
    Norm,
    level_widths,
    mean_and_max,
    pooled,
    separable,
)
from students.base import Student

DILATIONS = (7, 5, 2, 1)
SLOTS = 4  # slots of the external memory, in multiples of the channels


class Gate(nn.Module):
    """GAU: GELU(out(sigmoid(near(x)) GELU(wide(x)))) + shortcut(x)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.near = separable(inputs, inputs, 3)
        self.wide = separable(inputs, inputs, 5)
        self.out = separable(inputs, outputs, 3)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        gated = self.near(x).sigmoid() * functional.gelu(self.wide(x))
        return functional.gelu(self.out(gated)) + self.shortcut(x)


class DilatedAttention(nn.Module):
    """DGA: a quarter of the channels at each of four dilations, mixed, then gated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        part = inputs // GROUPS
        self.dilated = nn.ModuleList(
            nn.Conv2d(part, part, 3, padding=dilation, dilation=dilation, groups=part) for dilation in DILATIONS
        )
        self.mix = nn.Sequential(Norm(inputs), nn.Conv2d(inputs, inputs, 1), nn.GELU())
        self.gate = Gate(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        parts = [conv(part) for conv, part in zip(self.dilated, x.chunk(GROUPS, dim=1), strict=True)]
        return self.gate(self.mix(torch.cat(parts, dim=1)))


class ExternalAttention(nn.Module):
    """EA: every position attends to a memory of 4C learned slots."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.keys = nn.Conv1d(channels, SLOTS * channels, 1, bias=False)
        self.values = nn.Conv1d(SLOTS * channels, channels, 1, bias=False)
        self.out = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), Norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        attention = self.keys(self.query(x).flatten(2)).softmax(dim=-1)  # over the positions
        attention = attention / (1e-9 + attention.sum(dim=1, keepdim=True))  # then over the slots
        return functional.gelu(x + self.out(self.values(attention).view_as(x)))


class SCAB(nn.Module):
    """SAB, then CAB: spatial attention by one shared dilated convolution, channel attention from all levels at once."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, 7, padding=9, dilation=3)
        self.neighbours = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.mix = nn.ModuleList(nn.Linear(sum(widths), width) for width in widths)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (N, widths[i], h, w) -> maps of the same shapes."""
        gated = [self.spatial(mean_and_max(x)).sigmoid() * x for x in maps]
        summed = [gate + x for gate, x in zip(gated, maps, strict=True)]
        means = self.neighbours(pooled(summed)).squeeze(1)
        return tuple(
            mix(means).sigmoid()[..., None, None] * both + gate
            for mix, both, gate in zip(self.mix, summed, gated, strict=True)
        )


class MALUNet(Student):
    """MALUNet with 1, 2, 3, 4, 6 and 8 times `width` channels: 177,943 parameters at width 8.

    Images are padded with zeros at the bottom and right to multiples of 32, and the logits are cropped.
    """

    decoder: Decoder

    def __init__(self, *, width: int = 8, classes: int = 1) -> None:
        super().__init__()
        self.channels, self.strides, self.classes = level_widths("malunet", width), STRIDES, classes
        pairs = [(3, width), *pairwise(self.channels)]
        stages: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairs[:3]]
        for inputs, outputs in pairs[3:]:
            stages.append(nn.Sequential(ExternalAttention(inputs), DilatedAttention(inputs, outputs)))
        back = list(pairwise(self.channels[::-1]))
        steps: list[nn.Module] = [
            nn.Sequential(DilatedAttention(inputs, outputs), ExternalAttention(outputs)) for inputs, outputs in back[:3]
        ]
        steps += [nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in back[3:]]
        self.encoder = Encoder(stages, SCAB(self.channels[:-1]), self.channels)
        self.decoder = Decoder(steps, self.channels)
        self.head = nn.Conv2d(width, classes, 1)

    def decode(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size)."""
        return self.decoder.enlarge(self.head(self.decoder(features)))[..., : size[0], : size[1]]
