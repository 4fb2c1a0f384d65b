"""PraNet (Fan et al., MICCAI 2020): a parallel partial decoder, and reverse attention at three levels.

The partial decoder is that of Wu et al. (CVPR 2019), the receptive-field block that of Liu et al. (ECCV 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from students.backbone import Backbone, OnBackbone
from students.base import Student

KERNELS = (3, 5, 7)  # of a receptive-field block's branches; each also dilates the last convolution of its branch
ATTENTION = {8: (64, 2, 3), 16: (64, 2, 3), 32: (256, 3, 5)}  # stride -> width, convolutions, kernel of the attention


def conv(inputs: int, outputs: int, kernel: int | tuple[int, int], *, dilation: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, without bias, and batch norm; no activation."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (dilation * (sides[0] // 2), dilation * (sides[1] // 2))
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, sides, padding=padding, dilation=dilation, bias=False), nn.BatchNorm2d(outputs)
    )


def resized(x: Tensor, factor: float) -> Tensor:
    """(N, C, h, w) -> (N, C, factor h, factor w), bilinear."""
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ReceptiveField(nn.Module):
    """Four branches of growing reach side by side, a residual beside them: (N, inputs, h, w) -> (N, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        branches = [
            nn.Sequential(
                conv(inputs, outputs, 1),
                conv(outputs, outputs, (1, kernel)),
                conv(outputs, outputs, (kernel, 1)),
                conv(outputs, outputs, 3, dilation=kernel),
            )
            for kernel in KERNELS
        ]
        self.branches = nn.ModuleList([conv(inputs, outputs, 1), *branches])
        self.join = conv((1 + len(KERNELS)) * outputs, outputs, 3)
        self.residual = conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, outputs, h, w)."""
        joined = self.join(torch.cat([branch(x) for branch in self.branches], dim=1))
        return functional.relu(joined + self.residual(x))


class PartialDecoder(nn.Module):
    """Three deep maps at strides 8, 16, 32, gated by the deeper ones: a coarse global mask at stride 8."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.gate = nn.ModuleDict({name: conv(width, width, 3) for name in ("32_16", "32_8", "16_8")})
        self.carry = nn.ModuleDict({"32": conv(width, width, 3), "16": conv(2 * width, 2 * width, 3)})
        self.join = nn.ModuleDict({"16": conv(2 * width, 2 * width, 3), "8": conv(3 * width, 3 * width, 3)})
        self.mask = nn.Sequential(conv(3 * width, 3 * width, 3), nn.Conv2d(3 * width, classes, 1))

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Logits (N, classes, h, w) on the grid of the finest of `maps`, each (N, width, ...), finest first."""
        fine, middle, deep = maps
        twice = resized(deep, 2)
        gated = self.gate["32_16"](twice) * middle
        finest = self.gate["32_8"](resized(twice, 2)) * self.gate["16_8"](resized(middle, 2)) * fine
        joined = self.join["16"](torch.cat([gated, self.carry["32"](twice)], dim=1))
        joined = self.join["8"](torch.cat([finest, self.carry["16"](resized(joined, 2))], dim=1))
        return self.mask(joined)


class ReverseAttention(nn.Module):
    """A correction of a coarser mask's logits, from features times (1 - the mask's probability).

    With several classes the factor is 1 - the probability of the most probable class.
    """

    def __init__(self, inputs: int, stride: int, classes: int) -> None:
        super().__init__()
        width, count, kernel = ATTENTION[stride]
        layers: list[nn.Module] = [conv(inputs, width, 1)]
        for _ in range(count):
            layers += [conv(width, width, kernel), nn.ReLU(inplace=True)]
        self.correct = nn.Sequential(*layers, nn.Conv2d(width, classes, 3, padding=1))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits (N, classes, h, w) from features (N, inputs, h, w) and the coarser mask's logits on that grid."""
        return self.correct(features * (1 - mask.sigmoid()).amin(dim=1, keepdim=True)) + mask


class Decoder(nn.Module):
    """The global mask, then its three corrections from coarse to fine."""

    def __init__(self, channels: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(ReceptiveField(inputs, width) for inputs in channels)
        self.partial = PartialDecoder(width, classes)
        self.reverse = nn.ModuleList(
            ReverseAttention(inputs, stride, classes) for stride, inputs in zip((8, 16, 32), channels, strict=True)
        )

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Logits (N, classes, h, w), the finest correction first and the global mask last: at stride 8, 16, 32 and 8
        again; from `maps` (N, channels[i], h, w) at stride 8, 16, 32.
        """
        fine, middle, deep = (reduce(x) for reduce, x in zip(self.reduce, maps, strict=True))
        overall = self.partial((fine, middle, deep))
        masks = [self.reverse[2](maps[2], resized(overall, 0.25))]
        for level in (1, 0):
            masks.insert(0, self.reverse[level](maps[level], resized(masks[0], 2)))
        return (*masks, overall)


class PraNet(OnBackbone, Student):
    """PraNet with `width` channels in its partial decoder (32 in the paper), on any timm backbone with strides 8 to 32.

    The paper's backbone is Res2Net-50 (26w x 4s, deep stem: timm's res2net50d); 30,500,364 parameters. Its logits
    are the finest correction; `heads` gives all four for deep supervision. Images are padded with zeros at the bottom
    and right to multiples of 32, and the logits are cropped.
    """

    encoder: Backbone

    def __init__(self, *, width: int = 32, classes: int = 1, backbone: str = "res2net50d") -> None:
        super().__init__()
        self.encoder = Backbone(backbone)
        self.channels, self.strides, self.classes = self.encoder.channels, self.encoder.strides, classes
        if self.strides[-3:] != (8, 16, 32):
            raise ValueError(
                f"backbone {backbone!r} ends with strides {', '.join(map(str, self.strides[-3:]))}, but pranet needs "
                "8, 16 and 32; choose res2net50d, resnet50 or another one with these"
            )
        self.decoder = Decoder(self.channels[-3:], width, classes)
        self.head = nn.Identity()  # the corrections are logits already

    def decode(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size)."""
        return self.heads(features, size)[0]

    def heads(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Logits (N, classes, *size) of the three corrections, finest first, and of the global mask."""
        fine, middle, deep = features[-3:]
        masks = self.decoder((fine, middle, deep))
        return tuple(
            self.head(resized(mask, stride)[..., : size[0], : size[1]])
            for mask, stride in zip(masks, (8, 16, 32, 8), strict=True)
        )
