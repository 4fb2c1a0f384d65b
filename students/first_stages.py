"""Only the first stages of a timm backbone, for pretrained networks with less than a million parameters."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class FirstStages(nn.Module):
    """The stem and the first stages of one of timm's EfficientNets or MobileNets, under its names.

    Args:
        network: the backbone's pyramid, whose modules are used.
        stages: the number of stages.
        backbone: its name for the error message.

    Raises:
        ValueError: the backbone is of another kind or has fewer stages.
    """

    def __init__(self, network: Any, stages: int, *, backbone: str) -> None:  # noqa: ANN401
        from timm.models.efficientnet import EfficientNetFeatures

        super().__init__()
        has = len(network.blocks) if isinstance(network, EfficientNetFeatures) else 0
        if not 1 <= stages <= has:
            raise ValueError(
                f"backbone {backbone!r} has {has} stages that can be cut off, got encoder_stages={stages}; expected a "
                f"number up to that, for an EfficientNet or a MobileNetV2 of timm, or null for the whole backbone"
            )
        self.conv_stem, self.bn1, self.blocks = network.conv_stem, network.bn1, network.blocks[:stages]
        self.strides, stride = [], self.conv_stem.stride[0]
        for stage in self.blocks:
            for conv in stage.modules():
                stride *= conv.stride[0] if isinstance(conv, nn.Conv2d) else 1
            self.strides.append(stride)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The map (N, C, H / stride, W / stride) of every stage; the strides must divide the sides of `images`."""
        x, maps = self.bn1(self.conv_stem(images)), []
        for stage in self.blocks:
            x = stage(x)
            maps.append(x)
        return maps
