"""Operators of the fused attention networks: norms, 1x1 convolutions and doublings in the form that runs fastest.

Pointwise operators run over maps (N, C, H W). ONNX Runtime blocks the channels of two-dimensional convolutions by
sixteen; one-dimensional ones need no reordering or padding. Measured on one core by `distill bench what=student`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from students import malunet, microaunet
from students.attention_unet import GROUPS

EPSILON = 1e-5  # of a group norm
LARGE = 24576  # cells of a group: over more cells, ONNX Runtime's own mean has a relative error of about 1e-5
ROW = 256  # cells that are averaged at once in such a group
BLOCK = 4  # cells per side that a convolution to one channel computes at once
WORTH_BLOCKS = 4096  # cells of a map from which blocks are faster


def flat(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H W)."""
    return x.reshape(-1, x.shape[1], x.shape[2] * x.shape[3])


def like(x: Tensor, other: Tensor) -> Tensor:
    """(N, C, H W) -> (N, C, H, W), H and W being those of `other`."""
    return x.view(-1, x.shape[1], other.shape[2], other.shape[3])


def standardised(x: Tensor, groups: int = GROUPS) -> Tensor:
    """A group norm without its factors and summands: (N, C, L) -> (N, C, L); C is a multiple of `groups`."""
    channels, cells = x.shape[1:]
    size = channels // groups * cells
    if size <= LARGE or cells % ROW:
        return functional.instance_norm(x.view(-1, groups, size), eps=EPSILON).view(-1, channels, cells)
    centred = x.view(-1, groups, size) - mean_in_rows(x, groups)
    variance = mean_in_rows(centred * centred, groups)
    return (centred * (variance + EPSILON).rsqrt()).view(-1, channels, cells)


def mean_in_rows(x: Tensor, groups: int) -> Tensor:
    """The mean of each group, (N, groups, 1), over rows first, since one long float32 sum loses digits."""
    rows = x.shape[1] * x.shape[2] // ROW
    return x.view(-1, rows, ROW).mean(dim=2).view(-1, groups, rows // groups).mean(dim=2, keepdim=True)


class Affine(nn.Module):
    """A factor and a summand for every channel, in one operator: (N, C, ...) -> (N, C, ...)."""

    factor: Tensor
    summand: Tensor
    zero: Tensor
    one: Tensor

    def __init__(self, factor: Tensor, summand: Tensor) -> None:
        super().__init__()
        for name, value in (
            ("factor", factor.detach()),
            ("summand", summand.detach()),
            ("zero", torch.zeros(len(factor))),
            ("one", torch.ones(len(factor))),
        ):
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """`factor x + summand`: a batch norm of mean 0 and variance 1."""
        return functional.batch_norm(x, self.zero, self.one, self.factor, self.summand, eps=0.0)


def pointwise(weight: Tensor, bias: Tensor | None = None) -> nn.Conv1d:
    """A 1x1 convolution over (N, C, L) with given weight (outputs, inputs, ...) and bias (outputs,)."""
    conv = nn.Conv1d(weight.shape[1], weight.shape[0], 1, bias=bias is not None)
    with torch.no_grad():
        conv.weight.copy_(weight.view(conv.weight.shape))
        if bias is not None and conv.bias is not None:
            conv.bias.copy_(bias)
    return conv


def folded(norm: nn.Module, conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight (outputs, inputs) and bias of a 1x1 convolution that includes the scaling of the norm before it."""
    assert isinstance(norm, nn.GroupNorm) and isinstance(conv, nn.Conv2d) and conv.bias is not None
    weight = conv.weight.detach().flatten(1)
    return weight * norm.weight.detach(), conv.bias.detach() + weight @ norm.bias.detach()


class Normed(nn.Module):
    """A group norm: (N, C, H, W) -> (N, C, H, W), as two operators and two views."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        assert isinstance(norm, nn.GroupNorm)
        self.scale = Affine(norm.weight, norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return like(self.scale(standardised(flat(x))), x)


class Separable(nn.Module):
    """`students.attention_unet.separable`: (N, inputs, H, W) -> (N, outputs, H W)."""

    def __init__(self, plain: nn.Sequential) -> None:
        super().__init__()
        self.depthwise, norm, conv = plain
        self.mix = pointwise(*folded(norm, conv))

    def forward(self, x: Tensor) -> Tensor:
        """(N, outputs, H W)."""
        return self.mix(standardised(flat(self.depthwise(x))))


class Doubling(nn.Module):
    """`students.attention_unet.Doubling` as two products with constant matrices: (N, C, H, W) -> (N, C, 2H, 2W)."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 2H, 2W)."""
        return doubling_matrix(x.shape[2]) @ (x @ doubling_matrix(x.shape[3]).T)


def doubling_matrix(cells: int) -> Tensor:
    """The matrix (2 cells, cells) that doubles one axis by linear interpolation with corners aligned."""
    unit = torch.eye(cells)[None]
    return functional.interpolate(unit, size=2 * cells, mode="linear", align_corners=True)[0].T.contiguous()


class OneChannel(nn.Module):
    """A convolution to one channel, (N, C, H, W) -> (N, 1, H, W), that computes blocks of 4 x 4 cells as 16 channels.

    In the blocked layout, a single channel costs as much as sixteen; in blocks it costs an eighth of that.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.plain, self.margin, self.dilation = plain, int(plain.padding[0]), plain.dilation[0]
        self.reach = plain.kernel_size[0] - 1
        self.mode = "reflect" if plain.padding_mode == "reflect" else "constant"
        weight, ends = plain.weight.detach(), [(start, BLOCK - 1 - start) for start in range(BLOCK)]
        shifted = [functional.pad(weight, (*across, *down)) for down in ends for across in ends]
        self.register_buffer("weight", torch.cat(shifted))
        self.register_buffer("bias", None if plain.bias is None else plain.bias.detach().repeat(BLOCK**2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W); small maps use the plain convolution."""
        height, width = x.shape[2:]
        if height * width < WORTH_BLOCKS:
            return self.plain(x)
        every = self.dilation
        rows, columns = (-(-side // (every * BLOCK)) * BLOCK + self.reach for side in (height, width))
        x = functional.pad(x, [self.margin] * 4, mode=self.mode)
        x = functional.pad(x, (0, columns * every - x.shape[3], 0, rows * every - x.shape[2]))
        if every > 1:  # each of the `every`^2 maps of cells that far apart is convolved without dilation
            x = x.view(-1, x.shape[1], rows, every, columns, every).permute(0, 3, 5, 1, 2, 4)
            x = x.reshape(-1, x.shape[3], rows, columns)
        x = functional.pixel_shuffle(functional.conv2d(x, self.weight, self.bias, stride=BLOCK), BLOCK)
        if every > 1:
            x = x.view(-1, every, every, x.shape[2], x.shape[3]).permute(0, 3, 1, 4, 2)
            x = x.reshape(-1, 1, every * x.shape[1], every * x.shape[3])
        return x[..., :height, :width]


def blocked_bridge(plain: microaunet.LSCAB | malunet.SCAB) -> nn.Module:
    """An attention bridge with its spatial convolution as a `OneChannel`."""
    plain.add_module("spatial", OneChannel(plain.spatial))
    return plain
