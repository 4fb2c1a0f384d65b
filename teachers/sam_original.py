"""The checkpoints of `segment_anything` and MedSAM: which network their shapes describe, and what it calls its tensors.

Both hold the whole of SAM: `image_encoder.`, of which everything here speaks, `prompt_encoder.` and `mask_decoder.`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import SamVisionConfig

PREFIX = "image_encoder."
# `transformers` name -> original name; the neck before the blocks, whose norms are called the same in `transformers`.
_RENAMED = (
    ("neck.conv1.", "neck.0."),
    ("neck.layer_norm1.", "neck.1."),
    ("neck.conv2.", "neck.2."),
    ("neck.layer_norm2.", "neck.3."),
    ("patch_embed.projection.", "patch_embed.proj."),
    ("layer_norm1.", "norm1."),
    ("layer_norm2.", "norm2."),
    ("layers.", "blocks."),
)


def original_name(name: str) -> str:
    """What an original checkpoint calls a tensor of `transformers`' SamVisionEncoder, without `PREFIX`."""
    for library, original in _RENAMED:
        name = name.replace(library, original)
    return name


def config_of_original(found: Mapping[str, tuple[int, ...]], path: Path) -> SamVisionConfig:
    """The encoder that a checkpoint's shapes describe: base, large, huge, or any other.

    Relative positions are stored for every offset within a window, 2 * side - 1 of them: their number says how large a
    block's window is, and, where it is the whole grid, that the block attends everywhere.

    Args:
        found: name and shape of every tensor in the file.
        path: the file, for messages.

    Raises:
        ValueError: if a tensor that says the size is missing, or is no such tensor.
    """
    from transformers import SamVisionConfig

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        return _shape(found, PREFIX + name, dimensions, path)

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


def _shape(found: Mapping[str, tuple[int, ...]], name: str, dimensions: int, path: Path) -> tuple[int, ...]:
    """The shape of a tensor, or the sentence that says what is wrong with it."""
    if name not in found:
        raise ValueError(
            f"{path} is not the weights of SAM's vision encoder: it lacks {name}, from whose shape the size of the "
            "encoder follows; give the published file"
        )
    if len(found[name]) != dimensions or min(found[name]) < 1:
        raise ValueError(
            f"{path} is not the weights of SAM's vision encoder: expected {name} of {dimensions} dimensions, got shape "
            f"{found[name]}; give the published file"
        )
    return found[name]
