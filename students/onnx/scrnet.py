"""SCR-Net's calibration in operators that ONNX Runtime runs faster."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from students import scrnet
from students.scrnet import enlarge


class Calibration(nn.Module):
    """SCM, with the flow's convolution to two channels as a transposed one and the warp by rows of a table."""

    def __init__(self, plain: scrnet.Calibration) -> None:
        super().__init__()
        self.reduce = plain.reduce
        self.flow = nn.ConvTranspose2d(plain.flow.in_channels, 2, 3, padding=1, bias=False)
        with torch.no_grad():
            self.flow.weight.copy_(plain.flow.weight.flip(2, 3).transpose(0, 1))

    def forward(self, fine: Tensor, deep: Tensor) -> Tensor:
        """(N, C, 2h, 2w) and (N, C, h, w) -> (N, C, 2h, 2w)."""
        raised = enlarge(self.reduce(deep), (fine.shape[-2], fine.shape[-1]))
        return fine + warp(raised, self.flow(torch.cat([raised, fine], dim=1)))


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """`students.scrnet.warp` of x (N, C, H, W) by `flow` (N, 2, H, W), with H and W at least 2.

    A cell's four neighbours are found once for all channels. ONNX Runtime's own operator finds them for every channel.
    """
    channels, height, width = x.shape[1:]
    across = (torch.arange(width, dtype=x.dtype) + flow[:, 0]).clamp(0, width - 1)
    down = (torch.arange(height, dtype=x.dtype)[:, None] + flow[:, 1]).clamp(0, height - 1)
    left, top = across.floor().clamp(max=width - 2), down.floor().clamp(max=height - 2)
    right, low = across - left, down - top
    image = torch.arange(x.shape[0])[:, None, None] * (height * width)
    cell = (top * width + left).long() + image
    table = x.permute(0, 2, 3, 1).reshape(-1, channels)
    parts = [
        table.index_select(0, (cell + step).view(-1)) * share.reshape(-1, 1)
        for step, share in (
            (0, (1 - low) * (1 - right)),
            (1, (1 - low) * right),
            (width, low * (1 - right)),
            (width + 1, low * right),
        )
    ]
    return sum(parts[1:], parts[0]).view(-1, height, width, channels).permute(0, 3, 1, 2)
