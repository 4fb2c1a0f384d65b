"""The checkpoints of `segment_anything` (`sam_vit_b_01ec64.pth`): the network of their shapes.

They hold the whole of SAM: `image_encoder.`, `prompt_encoder.` and `mask_decoder.`.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teachers.weights.names import renamed
from teachers.weights.tensors import Shapes, shape_of

if TYPE_CHECKING:
    from transformers import SamVisionConfig

PREFIX = "image_encoder."
POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"


def encoder_config(found: Shapes, path: Path) -> SamVisionConfig:
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

    shape = partial(shape_of, found, path=path, network="SAM's vision encoder", prefix=PREFIX)
    _, grid, _, width = shape("pos_embed", dimensions=4)
    patch = shape("patch_embed.proj.weight", dimensions=4)[-1]
    blocks = {match[1] for name in found if (match := re.match(rf"{re.escape(PREFIX)}blocks\.(\d+)\.", name))}
    offsets = [shape(f"blocks.{index}.attn.rel_pos_h", dimensions=2) for index in range(max(1, len(blocks)))]
    windows = [(count + 1) // 2 for count, _ in offsets]
    return SamVisionConfig(
        hidden_size=width,
        output_channels=shape("neck.0.weight", dimensions=4)[0],
        num_hidden_layers=len(offsets),
        num_attention_heads=width // max(1, offsets[0][1]),
        image_size=grid * patch,
        patch_size=patch,
        window_size=max((side for side in windows if side != grid), default=grid),
        global_attn_indexes=[index for index, side in enumerate(windows) if side == grid],
        mlp_dim=shape("blocks.0.mlp.lin1.weight", dimensions=2)[0],
    )


def decoder_config(found: Shapes, vision: Any) -> Any:  # noqa: ANN401
    """The SamConfig that a checkpoint's shapes describe; eight heads and the epsilon are segment_anything's own.

    Args:
        found: name and shape of every tensor in the file.
        vision: the configuration of its vision encoder.
    """
    from transformers import SamConfig

    width = vision.output_channels
    layers = {name.split(".")[3] for name in found if name.startswith("mask_decoder.transformer.layers.")}
    return SamConfig(
        vision_config=vision.to_dict() | {"num_pos_feats": found[renamed(POSITIONS, "sam_decoder")][-1]},
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
