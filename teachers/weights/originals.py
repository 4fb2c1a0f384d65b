"""The networks that the shapes in original checkpoints of SAM, SAM 2 and DINOv2 describe.

Checkpoints of segment_anything (`sam_vit_b_01ec64.pth`) hold a whole SAM, those of SAM 2 and 2.1
(`sam2.1_hiera_tiny.pt`) a whole video model; in both the vision encoder is `image_encoder.`. Those of DINOv2
(`dinov2_vit*14_pretrain.pth`) are like timm's files of it. The names of the tensors are in names.yaml.

In every function `found` holds name and shape of all tensors of a file; `path` is the file, for messages. Errors as in
`shape_of`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from teachers.weights.names import renamed
from teachers.weights.tensors import Shapes, shape_of

PREFIX = "image_encoder."
PROMPT_POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"  # of SAM
# Of DINOv2, under the names of `transformers`.
MASK = "embeddings.mask_token"  # only pretraining uses it, so a file may lack it
POSITIONS = "embeddings.position_embeddings"
_HEAD = 64  # channels of an attention head, in every size of DINOv2


def count_blocks(found: Shapes, prefix: str) -> int:
    """The number of blocks whose tensors' names begin with this prefix and the block's number."""
    return len({match[1] for name in found if (match := re.match(rf"{re.escape(prefix)}(\d+)\.", name))})


def sam_settings(found: Shapes, path: Path) -> dict[str, Any]:
    """The vision_config of `transformers` that a checkpoint's shapes describe: base, large, huge, or any other.

    A block stores relative positions for the 2 * side - 1 offsets within its window, so their number gives the size
    of the window. If the window is the whole grid, the block attends globally.
    """
    shape = partial(shape_of, found, path=path, network="SAM's vision encoder", prefix=PREFIX)
    _, grid, _, width = shape("pos_embed", dimensions=4)
    patch = shape("patch_embed.proj.weight", dimensions=4)[-1]
    blocks = range(max(1, count_blocks(found, f"{PREFIX}blocks.")))
    offsets = [shape(f"blocks.{index}.attn.rel_pos_h", dimensions=2) for index in blocks]
    windows = [(count + 1) // 2 for count, _ in offsets]
    return {
        "hidden_size": width,
        "output_channels": shape("neck.0.weight", dimensions=4)[0],
        "num_hidden_layers": len(offsets),
        "num_attention_heads": width // max(1, offsets[0][1]),
        "image_size": grid * patch,
        "patch_size": patch,
        "window_size": max((side for side in windows if side != grid), default=grid),
        "global_attn_indexes": [index for index, side in enumerate(windows) if side == grid],
        "mlp_dim": shape("blocks.0.mlp.lin1.weight", dimensions=2)[0],
    }


def sam_decoder_config(found: Shapes, vision: Any) -> Any:  # noqa: ANN401
    """The SamConfig that a checkpoint's shapes describe, with segment_anything's own eight heads and epsilon.

    `vision` is the configuration of its vision encoder.
    """
    from transformers import SamConfig

    width = vision.output_channels
    return SamConfig(
        vision_config=vision.to_dict() | {"num_pos_feats": found[renamed(PROMPT_POSITIONS, "sam_decoder")][-1]},
        prompt_encoder_config={
            "hidden_size": width,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "mask_input_channels": found.get("prompt_encoder.mask_downscaling.3.weight", (16,))[0],
        },
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": found.get("mask_decoder.transformer.layers.0.mlp.lin1.weight", (2048,))[0],
            "num_hidden_layers": count_blocks(found, "mask_decoder.transformer.layers."),
            "iou_head_hidden_dim": found.get("mask_decoder.iou_prediction_head.layers.0.weight", (256,))[0],
            "layer_norm_eps": 1e-5,  # torch's default; that of transformers is 1e-6
        },
    )


# Blocks of the four stages, which differ in all sizes -> settings that shapes do not show: heads of the first stage,
# windows of each stage, global blocks. From sam2/configs/sam2.1/*.yaml, and the defaults of Hiera.
TRUNKS = {
    (1, 2, 7, 2): (1, (8, 4, 14, 7), (5, 7, 9)),  # tiny
    (1, 2, 11, 2): (1, (8, 4, 14, 7), (7, 10, 13)),  # small
    (2, 3, 16, 3): (2, (8, 4, 14, 7), (12, 16, 20)),  # base plus
    (2, 6, 36, 4): (2, (8, 4, 16, 8), (23, 33, 43)),  # large
}


def sam2_settings(found: Shapes, path: Path) -> dict[str, Any]:
    """The vision_config of `transformers` that a checkpoint's shapes describe.

    Raises:
        ValueError: if the trunk is not one of SAM 2's.
    """
    shape = partial(shape_of, found, path=path, network="SAM 2's vision encoder", prefix=PREFIX)
    count = max(1, count_blocks(found, f"{PREFIX}trunk.blocks."))
    widths = [shape(f"trunk.blocks.{index}.norm2.weight", dimensions=1)[0] for index in range(count)]
    stages = [(width, len(list(group))) for width, group in groupby(widths)]
    blocks = tuple(count for _, count in stages)
    if blocks not in TRUNKS:
        raise ValueError(
            f"{path} holds a trunk of {list(blocks)} blocks, but SAM 2 has one of {[list(known) for known in TRUNKS]}; "
            "give the published file"
        )
    heads, windows, everywhere = TRUNKS[blocks]
    return {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": widths[0],
            "num_attention_heads": heads,
            "blocks_per_stage": list(blocks),
            "embed_dim_per_stage": [width for width, _ in stages],
            "num_attention_heads_per_stage": [heads * 2**stage for stage in range(len(stages))],
            "window_size_per_stage": list(windows),
            "global_attention_blocks": list(everywhere),
            "window_positional_embedding_background_size": list(shape("trunk.pos_embed", dimensions=4)[2:]),
        },
        "backbone_channel_list": [width for width, _ in reversed(stages)],
        "fpn_hidden_size": shape("neck.convs.0.conv.weight", dimensions=4)[0],
    }


def dinov2_names(found: Shapes) -> Callable[[str], str]:
    """The mapping from a name in the files of `transformers` to the name in the file of these tensors."""
    if POSITIONS in found:
        return str
    by_timm = "reg_token" in found or (_is_gated(found) and "blocks.0.mlp.w12.weight" not in found)
    return lambda name: renamed(name, "dinov2", *(("dinov2_timm",) if by_timm else ()))


def _is_gated(found: Shapes) -> bool:
    inner, outer = found.get("blocks.0.mlp.fc1.weight", (0,)), found.get("blocks.0.mlp.fc2.weight", (0,))
    return "blocks.0.mlp.w12.weight" in found or inner[:1] == (2 * outer[-1],) != (0,)


def dinov2_config(found: Shapes, path: Path) -> Any:  # noqa: ANN401
    """The configuration of `transformers` that the shapes in an original checkpoint, or in timm's file, describe."""
    from transformers import Dinov2Config, Dinov2WithRegistersConfig

    shape = partial(shape_of, found, path=path, network="DINOv2")
    width, patch = shape("cls_token", dimensions=3)[-1], shape("patch_embed.proj.weight", dimensions=4)[-1]
    shape("blocks.0.norm1.weight", dimensions=1)  # requires at least one block
    cells = shape("pos_embed", dimensions=3)[1] - (0 if "reg_token" in found else 1)
    registers = [shape(name, dimensions=3)[1] for name in ("register_tokens", "reg_token") if name in found]
    settings: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": count_blocks(found, "blocks."),
        "num_attention_heads": max(1, width // _HEAD),
        "image_size": math.isqrt(cells) * patch,
        "patch_size": patch,
        "use_swiglu_ffn": _is_gated(found),
    }
    if registers:
        return Dinov2WithRegistersConfig(**settings, num_register_tokens=registers[0])
    return Dinov2Config(**settings)
