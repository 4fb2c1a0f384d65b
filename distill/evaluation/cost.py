"""Parameters and multiply-accumulates of a student."""

from __future__ import annotations

import torch
from torch import nn


def cost(student: nn.Module, *, image_size: int) -> dict[str, int]:
    """Parameters, and multiply-accumulates for one image at `image_size` (half of PyTorch's count of FLOP)."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    device = next(student.parameters()).device
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:  # fused attention is not always counted
        student(torch.zeros(1, 3, image_size, image_size, device=device))
    return {"parameters": count_parameters(student), "macs": counter.get_total_flops() // 2, "image_size": image_size}


def count_parameters(network: nn.Module) -> int:
    """The number of parameters; for a task decoder only its own, without its teacher's."""
    return sum(parameter.numel() for parameter in network.parameters())
