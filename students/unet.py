"""U-Net (Ronneberger et al., 2015) with padding and batch norm, at any width."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from students.base import Student


def double_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU: (N, inputs, H, W) -> (N, outputs, H, W)."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Five levels of double convolution, with 2x2 max pooling before all but the first."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            double_conv(inputs, outputs) for inputs, outputs in zip((3, *widths), widths, strict=False)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps at stride 1, 2, 4, 8, 16 of (N, 3, H, W), H and W multiples of 16."""
        maps: list[Tensor] = []
        for level in self.levels:
            maps.append(level(functional.max_pool2d(maps[-1], 2) if maps else images))
        return tuple(maps)


class Decoder(nn.Module):
    """Transposed convolution, concatenation with the encoder's map, double convolution; four times."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, fine, 2, stride=2) for fine, deep in pairs)
        self.levels = nn.ModuleList(double_conv(2 * fine, fine) for fine, _ in pairs)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """(N, widths[0], H, W) from the encoder's five maps."""
        x = maps[-1]
        for up, level, skip in zip(self.up, self.levels, maps[-2::-1], strict=True):
            x = level(torch.cat([skip, up(x)], dim=1))
        return x


class UNet(Student):
    """U-Net with 1, 2, 4, 8 and 16 times `width` channels; 31,043,521 parameters at width 64.

    Images are padded with zeros at the bottom and right to multiples of 16, and the logits are cropped.
    """

    def __init__(self, *, width: int = 64, classes: int = 1) -> None:
        super().__init__()
        self.channels = tuple(width * 2**level for level in range(5))
        self.strides = (1, 2, 4, 8, 16)
        self.classes = classes
        self.encoder = Encoder(self.channels)
        self.decoder = Decoder(self.channels)
        self.head = nn.Conv2d(width, classes, 1)
