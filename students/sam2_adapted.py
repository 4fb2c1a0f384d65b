"""SAM 2 fine-tuned for a task: a frozen trunk with adapters, full-scale skips and channel attention on top.

This is the live form of the task teacher: `students.task_decoder` reads a model's cached maps, while this network runs
the model, so that adapters can be trained. It is a student like any other: once published, it can be a teacher with
`adapter: student`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from students.base import Student, padded
from students.hiera import AdaptedHiera, has_adapters
from students.task_decoder import Decoder as FullScale
from students.task_decoder import Encoder as Laterals
from students.task_decoder import halved, resized

SUPERVISED = 3  # outputs under deep supervision, as in SAM2-UNet: at stride 2, 8 and 16


class Decoder(nn.Module):
    """A decoder in which every level reads every level of the trunk (UNet 3+) with channel attention."""

    def __init__(self, channels: tuple[int, ...], width: int, dropout: float) -> None:
        super().__init__()
        self.laterals = Laterals(channels, width, dropout)
        self.full_scale = FullScale(len(channels), width)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(N, width / 2, ...) at twice the finest grid, then (N, width, ...) on the next coarser grids."""
        levels = self.full_scale.levels(self.laterals(maps))
        finest = levels[0]
        fine = self.full_scale.refine(resized(finest, (2 * finest.shape[-2], 2 * finest.shape[-1])))
        return (fine, *levels[1:SUPERVISED])


class Sam2Adapted(Student):
    """SAM 2 with adapters; with Hiera-L 212,149,296 frozen parameters, 1,714,416 in adapters, 880,099 on top.

    Images are padded with zeros at the bottom and right to multiples of 32, and the logits are cropped.

    Args:
        width: channels of every level of the decoder.
        classes: channels of the logits.
        trunk: tiny, small, base_plus or large, or a description (`students.hiera.configuration`).
        bottleneck: channels inside an adapter.
        dropout: share of the decoder's lateral channels that are zeroed in training.
    """

    encoder: AdaptedHiera
    head: nn.ModuleList

    def __init__(
        self,
        *,
        width: int = 64,
        classes: int = 1,
        trunk: str | dict[str, Any] = "large",
        bottleneck: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = AdaptedHiera(trunk, bottleneck)
        self.channels, self.strides, self.classes = self.encoder.channels, self.encoder.strides, classes
        self.decoder = Decoder(self.channels, width, dropout)
        widths = [halved(width)] + [width] * (SUPERVISED - 1)
        self.head = nn.ModuleList(nn.Conv2d(channels, classes, 1) for channels in widths)

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The trunk's four maps (N, channels[i], H' / strides[i], ...) of images (N, 3, H, W), H' the padded height."""
        return self.encoder(padded(images, self.encoder.multiple))

    def decode(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size) of the finest output."""
        return self._logits(self.decoder(features)[:1], features, size)[0]

    def heads(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Logits (N, classes, *size) of every output, the finest first."""
        return self._logits(self.decoder(features), features, size)

    def _logits(
        self, levels: tuple[Tensor, ...], features: tuple[Tensor, ...], size: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """Logits (N, classes, *size) of each level: bilinear to the padded image, cut to `size`."""
        padded = (features[0].shape[-2] * self.strides[0], features[0].shape[-1] * self.strides[0])
        coarse = (head(level) for head, level in zip(self.head, levels, strict=False))
        return tuple(
            functional.interpolate(logits, size=padded, mode="bilinear", align_corners=False)[..., : size[0], : size[1]]
            for logits in coarse
        )

    def load_encoder(self, weights: str | Path) -> None:
        """Puts SAM 2's weights into the trunk (arguments and errors as in `AdaptedHiera.load`), or the weights that
        `export_encoder` wrote into trunk and adapters.
        """
        if has_adapters(Path(weights).expanduser()):
            super().load_encoder(weights)
        else:
            self.encoder.load(weights)
