"""Channels last, with which convolutions are fastest, unless torch's gradient would be wrong."""

from __future__ import annotations

import torch
from torch import nn


def memory_format_of(network: nn.Module, *, device: torch.device, precision: str) -> torch.memory_format:
    """The order of a network's tensors in memory for training.

    On CPUs, torch's weight gradient of a dilated depthwise convolution in bfloat16 reads uninitialised memory if the
    channels come last (measured with torch 2.15: a different gradient at each call, sometimes nan). Contiguous tensors
    take another path, which is correct.

    Args:
        network: the network in training.
        device: where it is trained.
        precision: of the autocast: fp32, bf16 or fp16.
    """
    wrong = device.type == "cpu" and precision != "fp32" and any(_is_dilated(part) for part in network.modules())
    return torch.contiguous_format if wrong else torch.channels_last


def _is_dilated(part: nn.Module) -> bool:
    return isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1 and max(part.dilation) > 1
