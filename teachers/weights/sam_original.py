"""The checkpoints of `segment_anything` (`sam_vit_b_01ec64.pth`): tensors' names, and the network of their shapes.

They hold the whole of SAM: `image_encoder.`, `prompt_encoder.` and `mask_decoder.`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teachers.weights.tensors import shape_of

if TYPE_CHECKING:
    from transformers import SamVisionConfig

PREFIX = "image_encoder."
# `transformers` name -> original name; the neck before the blocks, whose norms have the same names in `transformers`.
_ENCODER = (
    ("neck.conv1.", "neck.0."),
    ("neck.layer_norm1.", "neck.1."),
    ("neck.conv2.", "neck.2."),
    ("neck.layer_norm2.", "neck.3."),
    ("patch_embed.projection.", "patch_embed.proj."),
    ("layer_norm1.", "norm1."),
    ("layer_norm2.", "norm2."),
    ("layers.", "blocks."),
)
_DECODER = (
    ("shared_embedding.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (".point_embed.", ".point_embeddings."),
    ("mask_embed.conv1.", "mask_downscaling.0."),
    ("mask_embed.layer_norm1.", "mask_downscaling.1."),
    ("mask_embed.conv2.", "mask_downscaling.3."),
    ("mask_embed.layer_norm2.", "mask_downscaling.4."),
    ("mask_embed.conv3.", "mask_downscaling.6."),
    ("upscale_conv1.", "output_upscaling.0."),
    ("upscale_layer_norm.", "output_upscaling.1."),
    ("upscale_conv2.", "output_upscaling.3."),
    ("layer_norm_final_attn.", "norm_final_attn."),
    (".layer_norm", ".norm"),
    (".proj_in.", ".layers.0."),
    (".proj_out.", ".layers.2."),
)
POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"


def encoder_name(name: str) -> str:
    """The original name, without `PREFIX`, of a tensor of `transformers`' SamVisionEncoder."""
    for library, original in _ENCODER:
        name = name.replace(library, original)
    return name


def decoder_name(name: str) -> str:
    """The original name of a tensor of SAM's prompt encoder or mask decoder in `teachers.sam_masks`."""
    name = re.sub(r"(iou_prediction_head|mlps\.\d+)\.layers\.0\.", r"\1.layers.1.", name)
    for library, original in _DECODER:
        name = name.replace(library, original)
    return name


def encoder_config(found: Mapping[str, tuple[int, ...]], path: Path) -> SamVisionConfig:
    """The encoder that a checkpoint's shapes describe: base, large, huge, or any other.

    Relative positions are stored for every offset within a window, 2 * side - 1 of them: their number gives the
    size of a block's window; where that is the whole grid, the block attends everywhere.

    Args:
        found: name and shape of every tensor in the file.
        path: the file, for messages.

    Raises:
        ValueError: as `shape_of`.
    """
    from transformers import SamVisionConfig

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        return shape_of(found, PREFIX + name, dimensions=dimensions, path=path, network="SAM's vision encoder")

    _, grid, _, width = shape("pos_embed", 4)
    patch = shape("patch_embed.proj.weight", 4)[-1]
    blocks = {match[1] for name in found if (match := re.match(rf"{re.escape(PREFIX)}blocks\.(\d+)\.", name))}
    offsets = [shape(f"blocks.{index}.attn.rel_pos_h", 2) for index in range(max(1, len(blocks)))]
    windows = [(count + 1) // 2 for count, _ in offsets]
    return SamVisionConfig(
        hidden_size=width,
        output_channels=shape("neck.0.weight", 4)[0],
        num_hidden_layers=len(offsets),
        num_attention_heads=width // max(1, offsets[0][1]),
        image_size=grid * patch,
        patch_size=patch,
        window_size=max((side for side in windows if side != grid), default=grid),
        global_attn_indexes=[index for index, side in enumerate(windows) if side == grid],
        mlp_dim=shape("blocks.0.mlp.lin1.weight", 2)[0],
    )


def decoder_config(found: Mapping[str, tuple[int, ...]], vision: Any) -> Any:  # noqa: ANN401
    """The SamConfig that a checkpoint's shapes describe; eight heads and the epsilon are segment_anything's own.

    Args:
        found: name and shape of every tensor in the file.
        vision: the configuration of its vision encoder.
    """
    from transformers import SamConfig

    width = vision.output_channels
    layers = {name.split(".")[3] for name in found if name.startswith("mask_decoder.transformer.layers.")}
    return SamConfig(
        vision_config=vision.to_dict() | {"num_pos_feats": found[decoder_name(POSITIONS)][-1]},
        prompt_encoder_config={
            "hidden_size": width,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "mask_input_channels": found.get("prompt_encoder.mask_downscaling.3.weight", (16,))[0],
        },
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": found.get("mask_decoder.transformer.layers.0.mlp.lin1.weight", (2048,))[0],
            "num_hidden_layers": len(layers),
            "iou_head_hidden_dim": found.get("mask_decoder.iou_prediction_head.layers.0.weight", (256,))[0],
            "layer_norm_eps": 1e-5,  # torch's own, where transformers has 1e-6
        },
    )
