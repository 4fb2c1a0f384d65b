"""SAM's image encoder (Kirillov et al. 2023) as a student: how the built-in teacher is made."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from students.base import Student


GLOBAL_EVERY = 3  # blocks: the others attend within windows of half the grid's side, as SAM's do


class Trunk(nn.Module):
    """SAM's ViT with its neck, by transformers: (N, 3, S, S) -> (N, neck, S / patch, S / patch)."""

    def __init__(self, *, width: int, depth: int, image_size: int, patch: int, neck: int) -> None:
        super().__init__()
        from transformers import SamVisionConfig, SamVisionModel

        self.model = SamVisionModel(
            SamVisionConfig(
                hidden_size=width,
                num_hidden_layers=depth,
                num_attention_heads=width // 32,
                mlp_dim=4 * width,
                image_size=image_size,
                patch_size=patch,
                output_channels=neck,
                window_size=image_size // patch // 2,
                global_attn_indexes=list(range(GLOBAL_EVERY - 1, depth, GLOBAL_EVERY)),
            )
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The neck's map alone."""
        return (self.model(images).last_hidden_state,)


class Decoder(nn.Module):
    """Doubles the grid until it is that of the pixels, without skips: what a contour needs must pass the neck."""

    def __init__(self, neck: int, doublings: int) -> None:
        super().__init__()
        widths = [neck] + [max(16, neck // 2 ** (k + 1)) for k in range(doublings)]
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            )
            for inputs, outputs in zip(widths, widths[1:], strict=False)
        )
        self.channels = widths[-1]

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """(N, channels, h 2^doublings, w 2^doublings) from the neck's map."""
        (x,) = maps
        for step in self.steps:
            x = step(functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        return x


class SamViT(Student):
    """SAM's ViT of `width` channels and a light decoder, for square images of exactly `image_size`.

    `patch` must be a power of two. The encoder alone can be published in the format of transformers
    (`SamVisionModel`), which is what the `sam` teacher loads.
    """

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
        self.channels, self.strides, self.classes = (neck,), (patch,), classes
        self.encoder = Trunk(width=width, depth=depth, image_size=image_size, patch=patch, neck=neck)
        self.decoder = Decoder(neck, patch.bit_length() - 1)
        self.head = nn.Conv2d(self.decoder.channels, classes, 1)

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The neck's map at stride `patch`."""
        return self.encoder(images)

    def decode(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size)."""
        return self.head(self.decoder(features))[..., : size[0], : size[1]]

    def export_encoder(self, folder: Path) -> None:
        """Writes trunk and neck in float16 as a transformers folder that `weights=FOLDER` of the sam teacher reads."""
        import copy

        copy.deepcopy(self.encoder.model).half().save_pretrained(folder)
