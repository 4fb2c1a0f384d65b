"""DINOv2's tensors in the three kinds of files that hold them: their names, and the network of their shapes.

The names are those of `transformers`' files on the hub, which its own loader turns into those of its modules, whatever
their names in the installed version. The original checkpoints (`dinov2_vit*14_pretrain.pth`) are described by their
differences, and timm's files by what differs from these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from teachers.weights.names import renamed
from teachers.weights.tensors import Shapes, shape_of

MASK = "embeddings.mask_token"  # only pretraining uses it, so a file may do without
POSITIONS = "embeddings.position_embeddings"
_HEAD = 64  # channels of an attention head, in every size of DINOv2


@dataclass(frozen=True)
class Architecture:
    """The settings of a DINOv2 that differ between its sizes, under the names of `transformers`.

    Attributes:
        image_size: side of the images whose positions the weights hold, in pixels.
        registers: number of register tokens; 0 for the networks without.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    registers: int = 0
    use_swiglu_ffn: bool = False
    mlp_ratio: int = 4
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6


def names_in(found: Shapes) -> Callable[[str], str]:
    """Name in the files of `transformers` -> name in the file of these tensors."""
    if POSITIONS in found:
        return str
    by_timm = "reg_token" in found or (_is_gated(found) and "blocks.0.mlp.w12.weight" not in found)
    return lambda name: renamed(name, "dinov2", *(("dinov2_timm",) if by_timm else ()))


def _is_gated(found: Shapes) -> bool:
    inner, outer = found.get("blocks.0.mlp.fc1.weight", (0,)), found.get("blocks.0.mlp.fc2.weight", (0,))
    return "blocks.0.mlp.w12.weight" in found or inner[:1] == (2 * outer[-1],) != (0,)


def architecture_of(found: Shapes, path: Path) -> Architecture:
    """The network that the shapes of an original checkpoint, or of timm's file, describe.

    Raises:
        ValueError: as `shape_of`.
    """
    shape = partial(shape_of, found, path=path, network="DINOv2")
    width, patch = shape("cls_token", dimensions=3)[-1], shape("patch_embed.proj.weight", dimensions=4)[-1]
    shape("blocks.0.norm1.weight", dimensions=1)  # there is at least one block
    cells = shape("pos_embed", dimensions=3)[1] - (0 if "reg_token" in found else 1)
    registers = [name for name in ("register_tokens", "reg_token") if name in found]
    return Architecture(
        hidden_size=width,
        num_hidden_layers=len({match[1] for name in found if (match := re.match(r"blocks\.(\d+)\..", name))}),
        num_attention_heads=max(1, width // _HEAD),
        image_size=math.isqrt(cells) * patch,
        patch_size=patch,
        registers=shape(registers[0], dimensions=3)[1] if registers else 0,
        use_swiglu_ffn=_is_gated(found),
    )
