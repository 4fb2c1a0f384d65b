"""The checkpoints of SAM 2 and 2.1 (`sam2.1_hiera_tiny.pt`): the trunk of their shapes.

They hold a whole video model under the key `model`; everything here is about `image_encoder.`, its vision encoder.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from teachers.weights.tensors import Shapes, shape_of

PREFIX = "image_encoder."


class Trunk(NamedTuple):
    """Settings not derivable from shapes: heads of the first stage, windows of each stage, global blocks."""

    heads: int
    windows: tuple[int, ...]
    everywhere: tuple[int, ...]


# By the blocks of the four stages, which differ in all sizes: sam2/configs/sam2.1/*.yaml, and the defaults of Hiera.
TRUNKS = {
    (1, 2, 7, 2): Trunk(1, (8, 4, 14, 7), (5, 7, 9)),  # tiny
    (1, 2, 11, 2): Trunk(1, (8, 4, 14, 7), (7, 10, 13)),  # small
    (2, 3, 16, 3): Trunk(2, (8, 4, 14, 7), (12, 16, 20)),  # base plus
    (2, 6, 36, 4): Trunk(2, (8, 4, 16, 8), (23, 33, 43)),  # large
}


def settings_of_original(found: Shapes, path: Path) -> dict[str, Any]:
    """The vision_config of `transformers` that a checkpoint's shapes describe.

    Raises:
        ValueError: as `shape_of`, or the trunk is none of SAM 2's.
    """
    shape = partial(shape_of, found, path=path, network="SAM 2's vision encoder", prefix=PREFIX)
    places = {match[1] for name in found if (match := re.match(r"image_encoder\.trunk\.blocks\.(\d+)\.", name))}
    widths = [shape(f"trunk.blocks.{index}.norm2.weight", dimensions=1)[0] for index in range(max(1, len(places)))]
    stages = [(width, len(list(group))) for width, group in groupby(widths)]
    blocks = tuple(count for _, count in stages)
    if blocks not in TRUNKS:
        raise ValueError(
            f"{path} holds a trunk of {list(blocks)} blocks, but SAM 2 has one of {[list(known) for known in TRUNKS]}; "
            "give the published file"
        )
    trunk = TRUNKS[blocks]
    return {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": widths[0],
            "num_attention_heads": trunk.heads,
            "blocks_per_stage": list(blocks),
            "embed_dim_per_stage": [width for width, _ in stages],
            "num_attention_heads_per_stage": [trunk.heads * 2**stage for stage in range(len(stages))],
            "window_size_per_stage": list(trunk.windows),
            "global_attention_blocks": list(trunk.everywhere),
            "window_positional_embedding_background_size": list(shape("trunk.pos_embed", dimensions=4)[2:]),
        },
        "backbone_channel_list": [width for width, _ in reversed(stages)],
        "fpn_hidden_size": shape("neck.convs.0.conv.weight", dimensions=4)[0],
    }
