"""U-Net++ (Zhou et al., 2019): nested decoders on dense skips, deep supervision and pruned inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from students.base import Student
from students.unet import Encoder, double_conv

DEPTH = 4  # poolings of the full network


class Decoder(nn.Module):
    """The nodes X(i, j), j > 0, of the paper's figure 1: node "i_j" reads X(i, 0..j-1) and X(i+1, j-1) enlarged."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        self.nodes = nn.ModuleDict(
            {
                f"{level}_{column}": double_conv(column * widths[level] + widths[level + 1], widths[level])
                for column in range(1, self.depth + 1)
                for level in range(self.depth + 1 - column)
            }
        )

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """X(0, 1..depth), each (N, widths[0], H, W), from the encoder's maps X(0..depth, 0)."""
        rows = [[feature] for feature in maps]
        for column in range(1, self.depth + 1):
            for level in range(self.depth + 1 - column):
                below = functional.interpolate(
                    rows[level + 1][column - 1], scale_factor=2, mode="bilinear", align_corners=True
                )
                rows[level].append(self.nodes[f"{level}_{column}"](torch.cat([*rows[level], below], dim=1)))
        return tuple(rows[0][1:])


class UNetPlusPlus(Student):
    """U-Net++ with `width` to 16 times `width` channels; 9,163,329 parameters at width 32.

    `deep_supervision` puts a head on each full-resolution node; the logits are their mean, the paper's accurate mode.
    `pruned` cuts a smaller network out of one trained in this way; `depth` below 4 makes one, the paper's L1 to L3.

    Images are padded with zeros at the bottom and right to multiples of 2^depth, and the logits are cropped.
    """

    decoder: Decoder
    head: nn.ModuleList

    def __init__(
        self, *, width: int = 32, classes: int = 1, depth: int = DEPTH, deep_supervision: bool = False
    ) -> None:
        super().__init__()
        if not 1 <= depth <= DEPTH:
            raise ValueError(f"unetpp has depth {depth}, but it must be from 1 to {DEPTH}")
        self.channels = tuple(width * 2**level for level in range(depth + 1))
        self.strides = tuple(2**level for level in range(depth + 1))
        self.classes = classes
        self.encoder = Encoder(self.channels)
        self.decoder = Decoder(self.channels)
        self.head = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in range(depth if deep_supervision else 1))

    def decode(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size): of the last node, or under deep supervision the mean over all nodes."""
        logits = self.heads(features, size)
        return sum(logits[1:], logits[0]) / len(logits)

    def heads(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Logits (N, classes, *size) of every node with a head, the shallowest first, supervised as in the paper."""
        nodes = self.decoder(features)[-len(self.head) :]
        return tuple(head(node)[..., : size[0], : size[1]] for head, node in zip(self.head, nodes, strict=True))

    def pruned(self, depth: int) -> UNetPlusPlus:
        """A smaller network of copied weights whose logits are those of the head on node X(0, depth), in eval mode.

        Raises:
            ValueError: there is no such head.
        """
        full = self.decoder.depth
        if len(self.head) < full or not 1 <= depth <= full:
            raise ValueError(
                f"cannot prune to depth {depth}: expected a network trained with deep_supervision=true and a depth "
                f"from 1 to {full}, got {len(self.head)} head(s) at depth {full}"
            )
        small = UNetPlusPlus(width=self.channels[0], classes=self.classes, depth=depth)
        weights = self.state_dict()
        weights |= {f"head.0.{name}": value for name, value in self.head[depth - 1].state_dict().items()}
        small.load_state_dict({name: weights[name] for name in small.state_dict()})
        return small.eval()
