"""Stem, encoder and head of the fused MicroAUNet and MALUNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from students import attention_unet, malunet, microaunet
from students.base import padded
from students.onnx.operators import Affine, flat, like, pointwise, standardised


class Stem(nn.Module):
    """First stage, norm, pooling and GELU without a map of full size: (N, 3, H, W) -> (N, C, H/2, W/2).

    The four pixels of a pooling window become four adjacent channels.
    """

    def __init__(self, stage: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        assert isinstance(norm, nn.GroupNorm)
        if isinstance(stage, nn.Conv2d):
            self.stage: nn.Module = windows(stage)
        else:
            assert isinstance(stage, nn.Sequential)
            depthwise, mix = (with_norm(stage[first], stage[first + 1]) for first in (0, 3))
            self.stage = nn.Sequential(windows(depthwise), nn.ReLU(), each_of_four(mix), nn.ReLU())
        self.norm = Affine(norm.weight.repeat_interleave(4), norm.bias.repeat_interleave(4))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H/2, W/2)."""
        x = self.stage(images)
        normed = self.norm(standardised(flat(x)))
        largest = normed.view(-1, normed.shape[1] // 4, 4, normed.shape[2]).amax(dim=2)
        return functional.gelu(like(largest, x))


def with_norm(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """A convolution and the batch norm after it, as one convolution."""
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


def windows(plain: nn.Conv2d) -> nn.Conv2d:
    """A 3x3 convolution, dense or depthwise, as 2x2 windows of its result: (N, C, H, W) -> (N, 4 C', H/2, W/2)."""
    weight = plain.weight.detach()
    if plain.groups > 1:
        weight = torch.diag_embed(weight[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
    shifted = [functional.pad(weight, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)]
    conv = nn.Conv2d(weight.shape[1], 4 * plain.out_channels, 4, stride=2, padding=1)
    return filled(conv, torch.stack(shifted, dim=1).flatten(0, 1), plain)


def each_of_four(plain: nn.Conv2d) -> nn.Conv2d:
    """A 1x1 convolution on the windows of `windows`: (N, 4 C, H, W) -> (N, 4 C', H, W)."""
    conv = nn.Conv2d(4 * plain.in_channels, 4 * plain.out_channels, 1)
    return filled(conv, torch.kron(plain.weight.detach()[..., 0, 0], torch.eye(4))[..., None, None], plain)


def filled(conv: nn.Conv2d, weight: Tensor, plain: nn.Conv2d) -> nn.Conv2d:
    """`conv` with this weight (4 C', C, k, k), and each bias (C',) of `plain` four times."""
    assert plain.bias is not None and conv.bias is not None
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(plain.bias.repeat_interleave(4))
    return conv


class Encoder(nn.Module):
    """`students.attention_unet.Encoder` with the fused stem."""

    def __init__(self, plain: attention_unet.Encoder) -> None:
        super().__init__()
        self.stem = Stem(plain.stages[0], plain.norms[0])
        self.stages = plain.stages[1:]
        self.norms = plain.norms[1:]
        self.bridge = plain.bridge

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Six maps (N, C, h, w) at `STRIDES` of (N, 3, H, W), H and W multiples of 32."""
        maps = [self.stem(images)]
        for stage, norm in zip(self.stages, self.norms, strict=False):
            maps.append(functional.gelu(functional.max_pool2d(norm(stage(maps[-1])), 2)))
        return (*self.bridge(maps), functional.gelu(self.stages[-1](maps[-1])))


class Network(nn.Module):
    """A fused MicroAUNet or MALUNet: padding, encoder, decoder, head, doubling."""

    def __init__(self, plain: microaunet.MicroAUNet | malunet.MALUNet) -> None:
        super().__init__()
        self.encoder, self.decoder, self.classes = plain.encoder, plain.decoder, plain.classes
        assert isinstance(plain.head, nn.Conv2d)
        self.head = pointwise(plain.head.weight, plain.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of (N, 3, H, W)."""
        whole = padded(images, attention_unet.STRIDES[-1]).contiguous()  # and so all later maps, as views require
        x = self.decoder(self.encoder(whole))
        return self.decoder.enlarge(like(self.head(flat(x)), x))[..., : images.shape[-2], : images.shape[-1]]
