"""SCR-Net (Wu et al., AAAI 2021): semantic calibration by warping, semantic refinement by channel gates."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from students.base import Student
from students.unet import Encoder as Levels
from students.unet import double_conv

BINS = (1, 2, 3, 6)  # cells per side of the pyramid pooling


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation that keeps cell centres in place: (N, C, h, w) -> (N, C, *size)."""
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Reads x (N, C, H, W) at every cell plus `flow` (N, 2, H, W): columns to the right, rows down, in cells.

    Beyond the border, the nearest cell is read. Zero flow is the identity: both grid and sampling use coordinates of
    cell centres.
    """
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device, dtype=torch.float32)
    columns = torch.arange(width, device=x.device, dtype=torch.float32)
    right = (2 * (columns[None, None, :] + flow[:, 0].float()) + 1) / width - 1
    down = (2 * (rows[None, :, None] + flow[:, 1].float()) + 1) / height - 1
    grid = torch.stack([right, down], dim=-1)
    return functional.grid_sample(x.float(), grid, padding_mode="border", align_corners=False).to(x.dtype)


class PyramidPooling(nn.Module):
    """Means over 1, 4, 9 and 36 bins, each through a 1x1 convolution, and the map itself (Zhao et al., 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in BINS)
        self.mix = nn.Conv2d((len(BINS) + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        size = (x.shape[-2], x.shape[-1])
        means = [functional.adaptive_avg_pool2d(x, bins) for bins in BINS]
        parts = [enlarge(branch(mean), size) for branch, mean in zip(self.branches, means, strict=True)]
        return functional.relu(self.mix(torch.cat([*parts, x], dim=1)))


class Encoder(nn.Module):
    """Five levels of double convolution and pyramid pooling on the deepest."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = Levels(widths)
        self.pyramid = PyramidPooling(widths[-1])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps at stride 1, 2, 4, 8, 16 of (N, 3, H, W), H and W multiples of 16."""
        *fine, deepest = self.levels(images)
        return (*fine, self.pyramid(deepest))


class Calibration(nn.Module):
    """SCM: X' = Up(Conv1x1(deep)); S = Conv3x3([X', fine]); fine + warp(X', S)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels, 1, bias=False)
        self.flow = nn.Conv2d(2 * channels, 2, 3, padding=1, bias=False)

    def forward(self, fine: Tensor, deep: Tensor) -> Tensor:
        """(N, C, 2h, 2w) and (N, C, h, w) -> (N, C, 2h, 2w)."""
        raised = enlarge(self.reduce(deep), (fine.shape[-2], fine.shape[-1]))
        return fine + warp(raised, self.flow(torch.cat([raised, fine], dim=1)))


class Refinement(nn.Module):
    """SRM: U = ReLU(Conv1x1(mean of deep)); fine sigmoid(U + fine)."""

    def __init__(self, deep: int, fine: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(deep, fine, 1, bias=False)

    def forward(self, fine: Tensor, deep: Tensor) -> Tensor:
        """(N, fine, 2h, 2w) and (N, deep, h, w) -> (N, fine, 2h, 2w)."""
        context = functional.relu(self.expand(deep.mean(dim=(2, 3), keepdim=True)))
        return fine * torch.sigmoid(context + fine)


class Decoder(nn.Module):
    """Four times: calibrate, double convolution to fewer channels, refine. The next level reads the unrefined map."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.calibrations = nn.ModuleList(Calibration(deep) for deep, _ in pairs)
        self.levels = nn.ModuleList(double_conv(deep, fine) for deep, fine in pairs)
        self.refinements = nn.ModuleList(Refinement(deep, fine) for deep, fine in pairs)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Refined maps (N, widths[i + 1], h, w) at stride 8, 4, 2, 1 from the encoder's five, finest first."""
        deep, refined = maps[-1], []
        parts = zip(self.calibrations, self.levels, self.refinements, maps[-2::-1], strict=True)
        for calibrate, level, refine, skip in parts:
            fine = level(calibrate(skip, deep))
            refined.append(refine(fine, deep))
            deep = fine
        return tuple(refined)


class Head(nn.Module):
    """A 1x1 convolution on every level, enlarged and summed."""

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Logits (N, classes, H, W) from the decoder's maps, the last of which is (N, C, H, W)."""
        size = (maps[-1].shape[-2], maps[-1].shape[-1])
        logits = [enlarge(level(x), size) for level, x in zip(self.levels, maps, strict=True)]
        return sum(logits[1:], logits[0])


class SCRNet(Student):
    """SCR-Net as in its paper, with 1, 2, 4, 8 and 8 times `width` channels; 926,748 parameters at width 16.

    Images are padded with zeros at the bottom and right to multiples of 16, and the logits are cropped.
    """

    def __init__(self, *, width: int = 16, classes: int = 1) -> None:
        super().__init__()
        if width <= 0 or width % 2:
            raise ValueError(f"scrnet has a width of {width}, but it must be even: its last level has half of it")
        self.channels = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.strides, self.classes = (1, 2, 4, 8, 16), classes
        back = (8 * width, 4 * width, 2 * width, width, width // 2)
        self.encoder = Encoder(self.channels)
        self.decoder = Decoder(back)
        self.head = Head(back[1:], classes)
