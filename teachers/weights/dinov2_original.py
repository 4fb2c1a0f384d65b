"""DINOv2's tensors in the three kinds of files that hold them: their names and shapes.

A network's shapes are stated under the names of the original checkpoints (`dinov2_vit*14_pretrain.pth`); timm's files
and those of `transformers` are described by their differences. Every file is translated to the names of `transformers`'
files on the hub, which its own loader turns into those of its modules, whatever their names in the installed version.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from teachers.weights.tensors import shape_of

MASK = "mask_token"  # only pretraining uses it, so a file may do without
POSITIONS = "embeddings.position_embeddings"
_HEAD = 64  # channels of an attention head, in every size of DINOv2
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_TO_HUB = {
    "cls_token": "embeddings.cls_token",
    MASK: "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "pos_embed": POSITIONS,
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "mlp.w12": "mlp.weights_in",
    "mlp.w3": "mlp.weights_out",
}


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


def original_shapes(network: Architecture) -> dict[str, tuple[int, ...]]:
    """Every tensor of a network, under its original name, and its shape."""
    width, patch = network.hidden_size, network.patch_size
    inner = int(width * network.mlp_ratio)
    if network.use_swiglu_ffn:  # a gated layer has two thirds of the channels, in eights: dinov2/layers/swiglu_ffn.py
        inner = (int(inner * 2 / 3) + 7) // 8 * 8
        layers = {"mlp.w12": (2 * inner, width), "mlp.w3": (width, inner)}
    else:
        layers = {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    layers |= {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    block: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in layers.items()}
    block |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
    block |= dict.fromkeys(("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"), (width,))
    block |= {"ls1.gamma": (width,), "ls2.gamma": (width,)}
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        MASK: (1, width),
        "pos_embed": (1, (network.image_size // patch) ** 2 + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if network.registers:
        shapes["register_tokens"] = (1, network.registers, width)
    blocks = range(network.num_hidden_layers)
    return shapes | {f"blocks.{index}.{name}": shape for index in blocks for name, shape in block.items()}


def hub_names(name: str) -> tuple[str, ...]:
    """The names in `transformers`' files of a tensor of an original checkpoint: three where they hold its thirds."""
    match = _BLOCK.fullmatch(name)
    prefix, rest = (f"encoder.layer.{match[1]}.", match[2]) if match else ("", name)
    stem, dot, kind = rest.rpartition(".")
    if kind not in ("weight", "bias"):
        stem, dot, kind = rest, "", ""
    if stem == "attn.qkv":
        return tuple(f"{prefix}attention.attention.{part}{dot}{kind}" for part in ("query", "key", "value"))
    return (f"{prefix}{_TO_HUB.get(stem, stem)}{dot}{kind}",)


def hub_shapes(network: Architecture) -> dict[str, tuple[int, ...]]:
    """Every tensor of a network under its name in the files of `transformers`, and its shape."""
    shapes = {}
    for name, shape in original_shapes(network).items():
        names = hub_names(name)
        shapes.update({hub: (shape[0] // len(names), *shape[1:]) for hub in names})
    return shapes


def hub_tensors(original: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an original checkpoint under their names in the files of `transformers`."""
    tensors: dict[str, Tensor] = {}
    for name, value in original.items():
        names = hub_names(name)
        tensors.update(zip(names, value.chunk(len(names)) if len(names) > 1 else (value,), strict=True))
    return tensors


def is_timm(found: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether timm wrote a file, where that makes a difference: with registers, or with gated layers."""
    return "reg_token" in found or (_is_gated(found) and "blocks.0.mlp.w12.weight" not in found)


def _is_gated(found: Mapping[str, tuple[int, ...]]) -> bool:
    inner, outer = found.get("blocks.0.mlp.fc1.weight", (0,)), found.get("blocks.0.mlp.fc2.weight", (0,))
    return "blocks.0.mlp.w12.weight" in found or inner[:1] == (2 * outer[-1],) != (0,)


def timm_shapes(network: Architecture) -> dict[str, tuple[int, ...]]:
    """As `original_shapes`, for timm: no mask token, and one name for both kinds of layers.

    With registers there is no position for the class token either: timm has added it to the token itself.
    """
    shapes = {_timm_name(name): shape for name, shape in original_shapes(network).items() if name != MASK}
    if network.registers:
        _, tokens, width = shapes["pos_embed"]
        shapes["pos_embed"] = (1, tokens - 1, width)
    return shapes


def original_tensors(timm: Mapping[str, Tensor], network: Architecture) -> dict[str, Tensor]:
    """The tensors of timm's file under their original names."""
    tensors = {name: timm[_timm_name(name)] for name in original_shapes(network) if name != MASK}
    if network.registers:
        positions = tensors["pos_embed"]
        tensors["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], 1)
    return tensors


def _timm_name(name: str) -> str:
    for original, timm in (("register_tokens", "reg_token"), (".mlp.w12.", ".mlp.fc1."), (".mlp.w3.", ".mlp.fc2.")):
        name = name.replace(original, timm)
    return name


def architecture_of(found: Mapping[str, tuple[int, ...]], path: Path) -> Architecture:
    """The network that the shapes of an original checkpoint, or of timm's file, describe.

    Raises:
        ValueError: as `shape_of`.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        return shape_of(found, name, dimensions=dimensions, path=path, network="DINOv2")

    width, patch = shape("cls_token", 3)[-1], shape("patch_embed.proj.weight", 4)[-1]
    shape("blocks.0.norm1.weight", 1)  # there is at least one block
    cells = shape("pos_embed", 3)[1] - (0 if "reg_token" in found else 1)
    registers = [name for name in ("register_tokens", "reg_token") if name in found]
    return Architecture(
        hidden_size=width,
        num_hidden_layers=len({match[1] for name in found if (match := _BLOCK.fullmatch(name))}),
        num_attention_heads=max(1, width // _HEAD),
        image_size=math.isqrt(cells) * patch,
        patch_size=patch,
        registers=shape(registers[0], 3)[1] if registers else 0,
        use_swiglu_ffn=_is_gated(found),
    )
