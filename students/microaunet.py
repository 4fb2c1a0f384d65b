"""MicroAUNet (arXiv 2511.01143): depthwise blocks, gated attention, one attention bridge over all skips."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from students.attention_unet import (
    STRIDES,
    Decoder,
    Encoder,
    level_widths,
    mean_and_max,
    pooled,
    separable,
)
from students.base import Student, padded

SMALLEST = 128  # pixels after padding: to reflect three cells at stride 32, the bridge needs at least four


def depthwise_conv(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """DWDConv: depthwise 3x3 and pointwise convolution without bias, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class DepthwiseBlock(nn.Module):
    """DWDBlock: GELU(x + near(GELU(wide(x)))), wide with dilation 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = depthwise_conv(channels, channels, dilation=2)
        self.near = depthwise_conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return functional.gelu(x + self.near(functional.gelu(self.wide(x))))


class GatedAttention(nn.Module):
    """LDGA: a sigmoid map of one channel gates the refined map; a projected shortcut is added."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.refine = separable(inputs, inputs, 3)
        self.gate = nn.Conv2d(inputs, 1, 1, bias=False)
        self.project = separable(inputs, outputs, 1)
        self.shortcut = separable(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        refined = self.refine(x)
        return self.project(refined * self.gate(refined).sigmoid()) + self.shortcut(x)


class LSCAB(nn.Module):
    """LSCAB: channel attention from all levels at once, spatial attention by one shared convolution."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths, total = widths, sum(widths)
        self.neighbours = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.mix = nn.Linear(total, total)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, padding_mode="reflect", bias=False)
        self.alpha = nn.Parameter(torch.tensor(0.5))
        self.beta = nn.Parameter(torch.tensor(0.5))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (N, widths[i], h, w), each of at least 4x4 cells -> maps of the same shapes."""
        weights = self.mix(self.neighbours(pooled(maps)).squeeze(1)).sigmoid()[..., None, None]
        return tuple(
            x + (self.alpha * channel + self.beta * self.spatial(mean_and_max(x)).sigmoid()) * x
            for x, channel in zip(maps, weights.split(self.widths, dim=1), strict=True)
        )


class MicroAUNet(Student):
    """MicroAUNet with 1, 2, 3, 4, 6 and 8 times `width` channels: 84,281 parameters at width 8, 24,881 at width 4.

    Images are padded with zeros at the bottom and right to multiples of 32, and the logits are cropped. Padded images
    must be at least 128 pixels high and wide.
    """

    decoder: Decoder

    def __init__(self, *, width: int = 8, classes: int = 1) -> None:
        super().__init__()
        self.channels, self.strides, self.classes = level_widths("microaunet", width), STRIDES, classes
        stages = [depthwise_conv(3, width)] + [
            nn.Sequential(DepthwiseBlock(inputs), GatedAttention(inputs, outputs))
            for inputs, outputs in pairwise(self.channels)
        ]
        steps = [
            nn.Sequential(GatedAttention(inputs, outputs), DepthwiseBlock(outputs))
            for inputs, outputs in pairwise(self.channels[::-1])
        ]
        self.encoder = Encoder(stages, LSCAB(self.channels[:-1]), self.channels)
        self.decoder = Decoder(steps, self.channels)
        self.head = nn.Conv2d(width, classes, 1)

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The feature pyramid of images (N, 3, H, W), as `Student.features`.

        Raises:
            ValueError: the padded image has fewer than 128 pixels a side.
        """
        if min(padded(images, STRIDES[-1]).shape[-2:]) < SMALLEST:
            raise ValueError(
                f"microaunet needs images of at least {SMALLEST - 31} x {SMALLEST - 31} pixels, got "
                f"{images.shape[-2]} x {images.shape[-1]}; choose a larger image_size, such as {SMALLEST}"
            )
        return super().features(images)

    def decode(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size)."""
        return self.decoder.enlarge(self.head(self.decoder(features)))[..., : size[0], : size[1]]
