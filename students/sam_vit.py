"""SAM's image encoder (Kirillov et al. 2023) as a student; the built-in teacher is made from it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from students.base import Student, fill

if TYPE_CHECKING:
    from transformers import SamVisionModel

HEAD = 32  # channels of an attention head
# Rows and columns to the cell that a head attends to at first.
OFFSETS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (0, 0))
SHARPNESS = 1.5  # of that attention: the logit falls by this at a distance of one cell
SQUARE_SCALE = 0.3  # of the squared distance in its channel, so that its share of the query is small
CONTENT_AT_FIRST = 0.5  # factor on the initial query and key weights
GLOBAL_EVERY = 3  # every third block is global; the others, as in SAM, attend within windows of half the grid's side


def start_as_convolution(model: Any) -> None:  # noqa: ANN401
    """Initialises every head to attend to one neighbouring cell, so that a block starts as a convolution.

    Cordonnier et al., "On the relationship between self-attention and convolutional layers", 2020: attention by
    -a |d - o|^2 of the relative position d attends to the offset o. SAM's relative positions enter as q . r(d), so two
    channels of r hold d^2 and d, and the bias of q holds -a and 2 a o. Attention to content is learned in training.
    When training from scratch, this saves most of the steps.
    """
    with torch.no_grad():
        for layer in model.vision_encoder.layers:
            attention, width = layer.attn, layer.attn.qkv.in_features
            attention.qkv.weight[: 2 * width] *= CONTENT_AT_FIRST
            for axis, table in enumerate((attention.rel_pos_h, attention.rel_pos_w)):
                distance = torch.arange(len(table)) - len(table) // 2  # from a key to its query: q - k
                table[:, 2 * axis], table[:, 2 * axis + 1] = distance**2 * SQUARE_SCALE, distance * 1.0
                for head in range(width // HEAD):
                    offset = OFFSETS[head % len(OFFSETS)][axis]
                    bias = attention.qkv.bias[head * HEAD + 2 * axis :][:2]
                    bias[0], bias[1] = -SHARPNESS / SQUARE_SCALE, -2 * SHARPNESS * offset


class Trunk(nn.Module):
    """SAM's ViT with its neck, from transformers: (N, 3, S, S) -> (N, neck, S / patch, S / patch)."""

    model: SamVisionModel

    def __init__(self, *, width: int, depth: int, image_size: int, patch: int, neck: int) -> None:
        super().__init__()
        from transformers import SamVisionConfig, SamVisionModel

        self.model = SamVisionModel(
            SamVisionConfig(
                hidden_size=width,
                num_hidden_layers=depth,
                num_attention_heads=width // HEAD,
                mlp_dim=4 * width,
                image_size=image_size,
                patch_size=patch,
                output_channels=neck,
                window_size=image_size // patch // 2,
                global_attn_indexes=list(range(GLOBAL_EVERY - 1, depth, GLOBAL_EVERY)),
                initializer_range=0.05,  # its default, 1e-10, is for weights that are loaded over it
            )
        )
        start_as_convolution(self.model)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """One map, the neck's: (N, neck, S / patch, S / patch)."""
        return (self.model(images).last_hidden_state,)


class Decoder(nn.Module):
    """Doublings of the neck's grid up to the pixels, without skips: contours come from the neck's map alone."""

    def __init__(self, neck: int, doublings: int) -> None:
        super().__init__()
        widths = [neck] + [max(16, neck // 2 ** (k + 1)) for k in range(doublings)]
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
            )
            for inputs, outputs in pairwise(widths)
        )
        self.channels = widths[-1]

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """(N, channels, h 2^doublings, w 2^doublings) from the neck's map (N, neck, h, w)."""
        (x,) = maps
        for step in self.steps:
            x = step(functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        return x


class SamViT(Student):
    """SAM's ViT of `width` channels and a light decoder, for square images of exactly `image_size`.

    `patch` must be a power of two. The encoder can be published on its own in the format of transformers
    (`SamVisionModel`), which the `sam` teacher loads.
    """

    encoder: Trunk

    def __init__(
        self,
        *,
        width: int = 192,
        classes: int = 1,
        depth: int = 6,
        image_size: int = 128,
        patch: int = 8,
        neck: int = 64,
    ) -> None:
        super().__init__()
        if width % HEAD or width <= 0:
            raise ValueError(f"sam_vit has a width of {width}, but it must be a multiple of {HEAD}")
        if patch & (patch - 1) or image_size % (2 * patch):
            raise ValueError(
                f"sam_vit has patch {patch} and image_size {image_size}, but patch must be a power of two, and "
                "image_size an even number of patches"
            )
        self.channels, self.strides, self.classes = (neck,), (patch,), classes
        self.encoder = Trunk(width=width, depth=depth, image_size=image_size, patch=patch, neck=neck)
        self.decoder = Decoder(neck, patch.bit_length() - 1)
        self.head = nn.Conv2d(self.decoder.channels, classes, 1)

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The neck's map (N, channels[0], H / patch, W / patch) of images (N, 3, H, W)."""
        return self.encoder(images)

    def load_encoder(self, weights: str | Path) -> None:
        """Puts the model.safetensors that `export_encoder` wrote into trunk and neck; raises errors as in `Student`."""
        fill(self.encoder.model, weights, student=type(self).__name__)

    def export_encoder(self, folder: Path) -> None:
        """Writes trunk and neck in float16 as a transformers folder that `weights=FOLDER` of the sam teacher reads."""
        import copy

        from transformers.utils import logging

        logging.disable_progress_bar()
        model = copy.deepcopy(self.encoder.model)
        model.half().save_pretrained(folder)
