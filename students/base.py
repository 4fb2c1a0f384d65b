"""What every student is: encoder, decoder, head, and a declared feature pyramid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)  # ImageNet's statistics of RGB in [0, 1], by which every student's input is normalised
STD = (0.229, 0.224, 0.225)


class Student(nn.Module, PyTorchModelHubMixin, ABC):
    """A light segmentation network.

    Subclasses have three submodules named `encoder`, `decoder` and `head` (what a stage can freeze) and declare

    * `channels`, `strides`: one entry for each map that `features` returns, finest first;
    * `classes`: channels of the logits; 1 means one foreground class under a sigmoid.

    Images are float32 (N, 3, H, W), normalised with the ImageNet statistics, of any size.
    """

    encoder: nn.Module
    decoder: nn.Module
    head: nn.Module
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    classes: int

    @abstractmethod
    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The feature pyramid that the decoder reads: maps of shape (N, channels[i], ceil(H / strides[i]), ...)."""

    @abstractmethod
    def decode(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size) from the pyramid that `features` returned for images of `size`."""

    def heads(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Logits (N, classes, *size) of every head that training supervises; of most students just those of `decode`.

        The task terms of a stage are averaged over them (deep supervision).
        """
        return (self.decode(features, size),)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, H, W) for images (N, 3, H, W)."""
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return self.decode(self.features(images), size)

    def load_encoder(self, weights: str | Path) -> None:
        """Puts pretrained weights of the backbone into the encoder.

        Args:
            weights: a file, or "hub" for what the backbone's library publishes.

        Raises:
            FileNotFoundError: there are no such weights.
            ValueError: they are not the encoder's, or this student has no backbone.
        """
        raise ValueError(
            f"student {type(self).__name__} has no backbone that takes pretrained weights; leave student.encoder "
            "empty, or use student.name=timm_unet"
        )

    def export_encoder(self, folder: Path) -> None:
        """Writes the trained encoder alone into `folder`, in a format that others read.

        Raises:
            ValueError: this student has no such format.
        """
        raise ValueError(f"student {type(self).__name__} has no encoder to publish alone; use publish.encoder=false")
