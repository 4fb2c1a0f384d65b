"""U-Net (Ronneberger et al., 2015) on the feature pyramid of a timm backbone, which may be pretrained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from students.backbone import Backbone, OnBackbone
from students.base import Student
from students.unet import double_conv

WIDEST = 8  # of the decoder's levels, in multiples of `width`


class Decoder(nn.Module):
    """From the deepest map up: bilinear doubling, concatenation with the map of that stride if any, double convolution.

    A level at stride s has s times `width` channels, but at most `WIDEST` times; the last is at stride 1.
    """

    def __init__(self, strides: tuple[int, ...], channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.strides, levels, inputs = strides, [], channels[-1]
        skips = dict(zip(strides, channels, strict=True))
        for doubling in reversed(range(strides[-1].bit_length() - 1)):
            outputs = width * min(2**doubling, WIDEST)
            levels.append(double_conv(inputs + skips.get(2**doubling, 0), outputs))
            inputs = outputs
        self.levels = nn.ModuleList(levels)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """(N, width, H, W) from the encoder's maps."""
        x, stride, skips = maps[-1], self.strides[-1], dict(zip(self.strides, maps, strict=True))
        for level in self.levels:
            stride //= 2
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = level(torch.cat([skips[stride], x], dim=1) if stride in skips else x)
        return x


class TimmUNet(OnBackbone, Student):
    """U-Net on a timm backbone; 4,747,309 parameters at width 16 on EfficientNet-B0, of which it has 3,595,388.

    `encoder_stages`, `padding` and `pixel_range` are the arguments `stages`, `padding` and `pixel_range` of `Backbone`.

    Images are padded with zeros at the bottom and right to multiples of the coarsest stride, and logits are cropped.
    Weights are random until `load_encoder`. They are not an argument, so a published student loads anywhere.
    """

    encoder: Backbone

    def __init__(
        self,
        *,
        width: int = 16,
        classes: int = 1,
        backbone: str = "tf_efficientnet_b0.in1k",
        encoder_stages: int | None = None,
        padding: str | None = None,
        pixel_range: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = Backbone(backbone, stages=encoder_stages, padding=padding, pixel_range=pixel_range)
        self.channels, self.strides, self.classes = self.encoder.channels, self.encoder.strides, classes
        self.decoder = Decoder(self.strides, self.channels, width)
        self.head = nn.Conv2d(width, classes, 1)
