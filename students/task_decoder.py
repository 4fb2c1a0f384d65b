"""The task teacher's network: full-scale skips and channel attention on a teacher's cached maps.

Every decoder level reads every level of the pyramid (UNet 3+, Huang et al., 2020). Channels are weighted by their means
over the image (squeeze and excitation, Hu et al., 2018). The input is a teacher's maps, not an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional

Grid = tuple[int, int]

REDUCTION = 4  # factor of fewer channels between the two layers of the attention


def normalised(conv: nn.Conv2d) -> nn.Sequential:
    """A convolution without bias, batch norm and ReLU.

    Group norm scored the same (Dice within 0.003 on held-out images), but it removes the strength of an image's maps
    relative to other images, which the channel attention reads.
    """
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True))


def resized(x: Tensor, grid: Grid) -> Tensor:
    """(N, C, h, w) -> (N, C, *grid), cell centres kept in place: means of cells if it shrinks, else bilinear."""
    if x.shape[-2:] == grid:
        return x
    if x.shape[-2] >= grid[0] and x.shape[-1] >= grid[1]:
        return functional.adaptive_avg_pool2d(x, grid)
    return functional.interpolate(x, size=grid, mode="bilinear", align_corners=False)


def halved(width: int) -> int:
    """Channels after the doubling, where a cell costs four times: half of `width`, at least one."""
    return max(1, width // 2)


class ChannelAttention(nn.Module):
    """Squeeze and excitation: x times a weight for each channel of each image, computed from the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.excite = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def weights(self, x: Tensor) -> Tensor:
        """The weights in (0, 1): (N, C, h, w) -> (N, C)."""
        return self.excite(x.mean(dim=(2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return x * self.weights(x)[..., None, None]


class Encoder(nn.Module):
    """Each map through a 1x1 convolution of its own to `width` channels; whole channels are dropped in training."""

    def __init__(self, channels: Sequence[int], width: int, dropout: float) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(normalised(nn.Conv2d(inputs, width, 1, bias=False)) for inputs in channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps (N, channels[i], *grids[i]) -> maps (N, width, *grids[i])."""
        return tuple(self.dropout(lateral(x)) for lateral, x in zip(self.laterals, maps, strict=True))


class Decoder(nn.Module):
    """Coarsest level first: all levels on one grid, channel attention, 3x3 convolution; at the end one doubling.

    A level reads the encoder's maps at its own and all finer levels, and the decoder's maps at all coarser ones. The
    coarsest level, which in UNet 3+ is the encoder's map itself, also reads all maps here: nothing else mixes them.
    """

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.attention = nn.ModuleList(ChannelAttention(levels * width) for _ in range(levels))
        self.mix = nn.ModuleList(
            normalised(nn.Conv2d(levels * width, width, 3, padding=1, bias=False)) for _ in range(levels)
        )
        self.refine = normalised(nn.Conv2d(width, halved(width), 3, padding=1, bias=False))

    def levels(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Every level's output, finest first, in the shapes of the encoder's maps: (N, width, *grids[i])."""
        maps = list(features)
        for level in reversed(range(len(maps))):
            grid = (maps[level].shape[-2], maps[level].shape[-1])
            together = torch.cat([resized(x, grid) for x in maps], dim=1)
            maps[level] = self.mix[level](self.attention[level](together))  # finer levels read this
        return tuple(maps)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """(N, width / 2, 2 rows, 2 columns) of the finest grid, so that contours are finer than the features."""
        finest = self.levels(features)[0]
        return self.refine(resized(finest, (2 * finest.shape[-2], 2 * finest.shape[-1])))


class TaskDecoder(nn.Module, PyTorchModelHubMixin):
    """A segmentation network on a frozen teacher's maps.

    It has a student's parts, `encoder`, `decoder` and `head`, but is not a `Student`: its input is maps, not images.

    Args:
        channels: channels of each input map, finest first (for a cache, the components that its codec keeps).
        grids: rows and columns of each map.
        width: channels of every level inside.
        classes: channels of the logits; 1 means one foreground class under a sigmoid.
        dropout: share of the encoder's channels that are zeroed in training, from 0 to below 1, since the maps are
            frozen and masks are few.

    Raises:
        ValueError: the arguments do not describe a pyramid.
    """

    def __init__(
        self,
        *,
        channels: tuple[int, ...],
        grids: tuple[Grid, ...],
        width: int = 32,
        classes: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)  # a config.json has lists
        self.grids = tuple((rows, columns) for rows, columns in grids)
        self.classes = classes
        _check_pyramid(self.channels, self.grids)
        if min(width, classes) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"expected width and classes of at least 1 and a dropout from 0 to below 1, got a width of {width}, "
                f"{classes} classes and a dropout of {dropout}"
            )
        self.encoder = Encoder(self.channels, width, dropout)
        self.decoder = Decoder(len(self.grids), width)
        self.head = nn.Conv2d(halved(width), classes, 1)

    @property
    def grid(self) -> Grid:
        """Rows and columns of the mask before it is resized: twice those of the finest map."""
        return 2 * self.grids[0][0], 2 * self.grids[0][1]

    def features(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The teacher's maps (N, channels[i], *grids[i]), of whole images or of a box -> maps (N, width, *grids[i]).

        Raises:
            ValueError: the maps differ from the expected ones in number, channels or grids.
        """
        got = [tuple(x.shape[1:]) for x in maps]
        expected = [(channels, *grid) for channels, grid in zip(self.channels, self.grids, strict=True)]
        if got != expected:
            raise ValueError(
                f"expected {_listed(expected)}, got {_listed(got)}; give the maps of the teacher that this network was "
                "made for, finest first, each on its own grid"
            )
        return self.encoder(maps)

    def decode(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size) from what `features` returned: those on `grid`, bilinear to `size`."""
        logits = self.head(self.decoder(features))
        return functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def heads(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """The logits (N, classes, *size) that training supervises: those of `decode`, as for `Student.heads`."""
        return (self.decode(features, size),)

    def forward(self, maps: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size) from the teacher's maps (N, channels[i], *grids[i])."""
        return self.decode(self.features(maps), size)


def _check_pyramid(channels: tuple[int, ...], grids: tuple[Grid, ...]) -> None:
    numbers = [*channels, *(side for grid in grids for side in grid)]
    if len(channels) != len(grids) or not numbers or min(numbers) < 1:
        raise ValueError(
            f"expected channels and a grid (rows, columns) for each of at least one map, got channels {channels} and "
            f"grids {grids}"
        )
    if any(coarse[0] > fine[0] or coarse[1] > fine[1] for fine, coarse in pairwise(grids)):
        raise ValueError(f"expected the finest grid first and no finer one after it, got {grids}; reorder the maps")


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return f"{len(shapes)} map(s) of (channels, rows, columns) {', '.join(map(str, shapes))}"
