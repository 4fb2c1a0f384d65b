"""DINOv3 (Simeoni et al. 2025): normed patch tokens of chosen blocks of its ViT, stages of its ConvNeXt.

From `transformers` folders and hub ids. Positions are rotary and take any size. The whole image is stretched to a
square, as the processor of these weights does. The weights trained on satellite images (SAT-493M) expect other pixel
statistics than ImageNet's, which stand in no file that is read here: they are not supported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cache.spec import FeatureSpec, MapSpec
from teachers.base import Teacher
from teachers.choice import Choice, choose_levels, require_multiple, require_unset
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, SquareResize
from teachers.weights.locate import locate, require_kind
from teachers.weights.tensors import read_shapes, sha256
from teachers.weights.transformers import load_network

_EXAMPLE = "facebook/dinov3-vitb16-pretrain-lvd1689m"
_VIT, _CONVNEXT = "dinov3_vit", "dinov3_convnext"
_ARCHITECTURE = {  # settings that differ between networks, under the names of `transformers`
    _VIT: (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size"),
        *("num_register_tokens", "use_gated_mlp", "hidden_act", "rope_theta", "layer_norm_eps"),
    ),
    _CONVNEXT: ("hidden_sizes", "depths", "hidden_act", "layer_norm_eps"),
}
_STEM = 4  # stride of ConvNeXt's first stage; each further one doubles it


class Dinov3Teacher(Teacher):
    """Maps `block0`, `block1`, ... of a ViT (hidden_size channels on image_size / 16 cells), each under the final norm.

    Of a ConvNeXt `stage0` to `stage3` at strides 4 to 32. Class and register tokens are dropped.
    """

    example = _EXAMPLE

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> Dinov3Teacher:
        """Loads a folder of `DINOv3ViTModel` or `DINOv3ConvNextModel`, of any size.

        Arguments and errors as in `teachers.load`; `levels` are blocks or stages, counted from 0, the last one if None.
        """
        require_unset(choice, "model", "strides", teacher="dinov3")
        files = locate(weights, example=_EXAMPLE)
        raw = require_kind(files, (_VIT, _CONVNEXT), teacher="dinov3", example=_EXAMPLE)
        kind, config = _config(raw)
        maps = _vit_maps if kind == _VIT else _convnext_maps
        size = choice.image_size or _side(config.image_size)
        levels, spec = maps(config, choice.levels, size)
        found = read_shapes(files.model)
        facts = {key: getattr(config, key) for key in _ARCHITECTURE[kind]}
        return cls(
            "dinov3",
            _network(kind, config, files.model, found, depth=levels[-1] + 1),
            spec=spec,
            preprocessing=SquareResize(size, IMAGENET_MEAN, IMAGENET_STD),
            facts={"model": {"kind": kind, **facts}, "levels": levels, "weights": sha256(files.model)},
            licence="DINOv3 License",
        )

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Teacher.maps`."""
        run = _run_vit if self._facts["model"]["kind"] == _VIT else _run_convnext
        states = run(self.network, pixels)
        return {name: states[level] for name, level in zip(self.spec.names, self._facts["levels"], strict=True)}


def _config(raw: Mapping[str, Any]) -> tuple[str, Any]:
    from transformers import DINOv3ConvNextConfig, DINOv3ViTConfig

    kind: Any = DINOv3ViTConfig if raw["model_type"] == _VIT else DINOv3ConvNextConfig
    return raw["model_type"], kind.from_dict(dict(raw))


def _side(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else int(size[0])


def _vit_maps(config: Any, levels: Sequence[int] | None, size: int) -> tuple[list[int], FeatureSpec]:  # noqa: ANN401
    """The chosen blocks, from shallow to deep, and their maps."""
    patch = _side(config.patch_size)
    require_multiple(size, patch, cells="DINOv3's patches")
    depth = config.num_hidden_layers
    chosen = choose_levels(levels, depth, weights="DINOv3", default=(depth - 1,))
    grid = (size // patch, size // patch)
    return chosen, FeatureSpec(tuple(MapSpec(f"block{level}", config.hidden_size, grid, patch) for level in chosen))


def _convnext_maps(config: Any, levels: Sequence[int] | None, size: int) -> tuple[list[int], FeatureSpec]:  # noqa: ANN401
    """The chosen stages, from shallow to deep, and their maps."""
    depth = len(config.depths)
    chosen = choose_levels(levels, depth, weights="DINOv3", kind="stages", default=(depth - 1,))
    require_multiple(size, _STEM * 2 ** chosen[-1], cells="DINOv3's cells")
    strides = [_STEM * 2**level for level in chosen]
    return chosen, FeatureSpec(
        tuple(
            MapSpec(f"stage{level}", config.hidden_sizes[level], (size // stride, size // stride), stride)
            for level, stride in zip(chosen, strides, strict=True)
        )
    )


def _network(
    kind: str,
    config: Any,  # noqa: ANN401
    path: Path,
    found: Mapping[str, tuple[int, ...]],
    *,
    depth: int,
) -> nn.Module:
    """The network with its weights in float32, cut after `depth` blocks or stages."""
    from transformers import DINOv3ConvNextModel, DINOv3ViTModel

    loader = DINOv3ViTModel if kind == _VIT else DINOv3ConvNextModel
    network: Any = load_network(loader, config, path, found, title="DINOv3 as its config.json describes it")
    del _blocks(network, "layer" if kind == _VIT else "stages")[depth:]
    return network


def _blocks(network: Any, name: str) -> nn.ModuleList:  # noqa: ANN401
    """Its blocks: of the network itself, or from version 5 of `transformers` on of an encoder inside."""
    return getattr(network if name in dict(network.named_children()) else network.model, name)


def _run_vit(network: Any, pixels: Tensor) -> list[Tensor]:  # noqa: ANN401
    """The patch tokens after every block, under the final norm, as maps (N, C, rows, columns)."""
    tokens, positions, maps = network.embeddings(pixels), network.rope_embeddings(pixels), []
    rows, columns = (side // _side(network.config.patch_size) for side in pixels.shape[-2:])
    for block in _blocks(network, "layer"):
        tokens = block(tokens, position_embeddings=positions)
        patches = network.norm(tokens)[:, -rows * columns :]
        maps.append(patches.unflatten(1, (rows, columns)).permute(0, 3, 1, 2))
    return maps


def _run_convnext(network: Any, pixels: Tensor) -> list[Tensor]:  # noqa: ANN401
    """Every stage (N, C, rows, columns); the original puts the last one alone under the final norm."""
    maps = [pixels]
    for stage in _blocks(network, "stages"):
        maps.append(stage(maps[-1]))
    if len(maps) == 1 + len(network.config.depths):
        maps.append(network.layer_norm(maps.pop().permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    return maps[1:]
