"""The skeleton of MicroAUNet and MALUNet: six stages with group norm, a bridge over the skips, five decoder steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (2, 4, 8, 16, 32, 32)
GROUPS = 4


def level_widths(name: str, width: int) -> tuple[int, ...]:
    """Channels of the six stages: 1, 2, 3, 4, 6 and 8 times `width`.

    Raises:
        ValueError: `width` is not a positive multiple of 4, the number of groups in norms and attention.
    """
    if width <= 0 or width % GROUPS:
        raise ValueError(f"{name} has a width of {width}, but it must be a multiple of {GROUPS}, such as 8")
    return tuple(width * factor for factor in (1, 2, 3, 4, 6, 8))


class Norm(nn.GroupNorm):
    """Group norm over four groups of `channels`: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels)


class Doubling(nn.Module):
    """(N, C, H, W) -> (N, C, 2H, 2W), bilinear with the corners aligned."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 2H, 2W)."""
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def separable(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Depthwise kernel x kernel, group norm, pointwise: (N, inputs, H, W) -> (N, outputs, H, W)."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs),
        Norm(inputs),
        nn.Conv2d(inputs, outputs, 1),
    )


def mean_and_max(x: Tensor) -> Tensor:
    """Mean and maximum over the channels: (N, C, H, W) -> (N, 2, H, W)."""
    return torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """The means of all channels of all maps in one row: (N, 1, sum of channels)."""
    return torch.cat([x.mean(dim=(2, 3)) for x in maps], dim=1).unsqueeze(1)


class Encoder(nn.Module):
    """Stages 1 to 5, each followed by group norm, 2x2 max pooling and GELU; stage 6; a bridge over the first five maps.

    Args:
        stages: six modules, stage i of (N, widths[i-1], H, W) -> (N, widths[i], H, W).
        bridge: five maps -> five maps of the same shapes.
        widths: channels of the stages.
    """

    def __init__(self, stages: Sequence[nn.Module], bridge: nn.Module, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.norms = nn.ModuleList(Norm(width) for width in widths[:-1])
        self.bridge = bridge

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Six maps at `STRIDES` of (N, 3, H, W), H and W multiples of 32."""
        maps: list[Tensor] = []
        x = images
        for stage, norm in zip(self.stages, self.norms, strict=False):
            x = functional.gelu(functional.max_pool2d(norm(stage(x)), 2))
            maps.append(x)
        return (*self.bridge(maps), functional.gelu(self.stages[-1](x)))


class Decoder(nn.Module):
    """Five steps, each followed by group norm, doubling (except after the first), GELU, and addition of the skip.

    Args:
        steps: five modules, coarsest first, from each width to the next finer one.
        widths: channels of the encoder's stages.
    """

    def __init__(self, steps: Sequence[nn.Module], widths: tuple[int, ...]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.norms = nn.ModuleList(Norm(width) for width in widths[-2::-1])
        self.enlarge = Doubling()

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """(N, widths[0], H/2, W/2) from the encoder's six maps (N, widths[i], h, w)."""
        x = maps[-1]
        for index, (step, norm, skip) in enumerate(zip(self.steps, self.norms, maps[-2::-1], strict=True)):
            x = norm(step(x))
            x = functional.gelu(self.enlarge(x) if index else x) + skip
        return x
