"""DINOv2 (Oquab et al. 2023; with registers: Darcet et al. 2023): normed patch tokens of chosen blocks.

Positions at another size than the weights' own follow the original code (dinov2/models/vision_transformer.py with the
settings of dinov2/hub/backbones.py), resized once while loading: bicubic, without registers at a scale of (n + 0.1) / m
for n cells out of m, a historical trick that shifts the samples, and without antialiasing; with registers to the
plain size, antialiased. `transformers` does the second but not the first: it leaves out the 0.1. At the weights' own
518 pixels nothing is resized, and both agree.

The processor of these weights cuts the centre out of an image, so that its features do not cover the image. Here the
whole image is stretched to a square instead, and the maps cover it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cache.spec import FeatureSpec, MapSpec
from teachers.base import Teacher
from teachers.choice import Choice, choose_levels, require_multiple, require_unset
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, SquareResize
from teachers.weights import dinov2_original as names
from teachers.weights.dinov2_original import POSITIONS, Architecture
from teachers.weights.locate import WeightFiles, locate, read_config, require_kind, sides_of
from teachers.weights.tensors import read_shapes, read_tensors, require_shapes, sha256
from teachers.weights.transformers import without_progress_bar

_EXAMPLE = "facebook/dinov2-base"


class Dinov2Teacher(Teacher):
    """Maps `block0`, `block1`, ...: the tokens after that block, under the final norm, laid out on the image.

    Each has hidden_size channels (base: 768) on image_size / 14 (37 x 37) cells. Class and register tokens are dropped.
    """

    example = _EXAMPLE

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> Dinov2Teacher:
        """Loads a folder of `Dinov2Model` or `Dinov2WithRegistersModel`, one of timm's, or an original checkpoint.

        Arguments and errors as in `teachers.load`; `levels` are blocks, counted from 0, the last one if None.
        """
        require_unset(choice, "model", "strides", teacher="dinov2")
        files = locate(weights, example=_EXAMPLE, originals=True)
        found = read_shapes(files.model)
        architecture = _architecture(files, found)
        size, patch = choice.image_size or architecture.image_size, architecture.patch_size
        require_multiple(size, patch, cells="DINOv2's patches")
        depth = architecture.num_hidden_layers
        blocks = choose_levels(choice.levels, depth, weights="DINOv2", default=(depth - 1,))
        width, grid = architecture.hidden_size, (size // patch, size // patch)
        return cls(
            "dinov2",
            _network(files.model, found, architecture, size=size, depth=blocks[-1] + 1),
            spec=FeatureSpec(tuple(MapSpec(f"block{block}", width, grid, patch) for block in blocks)),
            preprocessing=SquareResize(size, IMAGENET_MEAN, IMAGENET_STD),
            facts={"model": asdict(architecture), "levels": blocks, "weights": sha256(files.model)},
            licence="Apache-2.0",
        )

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Teacher.maps`."""
        blocks, (rows, columns) = self._facts["levels"], self.spec.maps[0].grid
        if len(blocks) == 1:  # the network ends with it
            tokens = [self.network(pixels).last_hidden_state]
        else:
            norm = self.network.get_submodule("layernorm")
            states = self.network(pixels, output_hidden_states=True).hidden_states  # the first is the embedding
            tokens = [norm(states[block + 1]) for block in blocks]
        return {
            name: value[:, -rows * columns :].unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
            for name, value in zip(self.spec.names, tokens, strict=True)
        }


def _architecture(files: WeightFiles, found: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The network that the config.json of `transformers` describes, or else the shapes of the tensors."""
    raw = read_config(files.config) if files.config else {}
    if POSITIONS in found or (raw and "dinov2" not in str(raw.get("architecture"))):  # else timm's, or an original
        raw = require_kind(files, ("dinov2", "dinov2_with_registers"), teacher="dinov2", example=_EXAMPLE)
        return _from_config(files, raw)
    return names.architecture_of(found, files.model)


def _from_config(files: WeightFiles, raw: Mapping[str, Any]) -> Architecture:
    from transformers import Dinov2Config, Dinov2WithRegistersConfig

    registers = raw["model_type"] == "dinov2_with_registers"
    config: Any = (Dinov2WithRegistersConfig if registers else Dinov2Config).from_dict(dict(raw))
    sides_of(config, str(files.config))
    shared = {field.name: getattr(config, field.name) for field in fields(Architecture) if field.name != "registers"}
    return Architecture(**shared, registers=config.num_register_tokens if registers else 0)


def _network(
    path: Path, found: Mapping[str, tuple[int, ...]], architecture: Architecture, *, size: int, depth: int
) -> nn.Module:
    """The first `depth` blocks with their weights in float32 and positions for images of `size` pixels."""
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    state = _state(path, found, architecture)
    part = replace(architecture, num_hidden_layers=depth, image_size=size)
    settings = asdict(part)
    registers = settings.pop("registers")
    config: Any = (
        Dinov2WithRegistersConfig(**settings, num_register_tokens=registers) if registers else Dinov2Config(**settings)
    )
    loader: Any = Dinov2WithRegistersModel if registers else Dinov2Model
    positions = resize_positions(state[POSITIONS], size // part.patch_size, antialias=registers > 0)
    wanted = {name: state[name] for name in names.hub_shapes(part)} | {POSITIONS: positions}
    with without_progress_bar():
        network, report = loader.from_pretrained(None, config=config, state_dict=wanted, output_loading_info=True)
    assert not any(report.values()), report
    return network


def _state(path: Path, found: Mapping[str, tuple[int, ...]], architecture: Architecture) -> dict[str, Tensor]:
    """The tensors of a file of any kind under the names of `transformers`' files, after a strict comparison."""
    timm, hub, mask = names.is_timm(found), POSITIONS in found, names.hub_names(names.MASK)[0]
    shapes = names.hub_shapes if hub else names.timm_shapes if timm else names.original_shapes
    expected = {
        name: shape for name, shape in shapes(architecture).items() if name in found or name not in (names.MASK, mask)
    }
    require_shapes(found, expected, path=path, network="DINOv2 as its config.json or its own shapes describe it")
    state = read_tensors(path)
    if not hub:
        state = names.hub_tensors(names.original_tensors(state, architecture) if timm else state)
    return {mask: state["embeddings.cls_token"].new_zeros(1, architecture.hidden_size)} | state


def resize_positions(positions: Tensor, cells: int, *, antialias: bool) -> Tensor:
    """Position embeddings for another grid, as the original code resizes them.

    Args:
        positions: float tensor (1, 1 + m * m, C), the class token's first.
        cells: n, the side of the grid that is wanted.
        antialias: True as for the networks with registers; False shifts the scale by the 0.1 of those without.

    Returns:
        float tensor (1, 1 + n * n, C); the same where n = m.
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    if cells == side:
        return positions
    patches = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if antialias:
        patches = F.interpolate(patches, size=(cells, cells), mode="bicubic", antialias=True)
    else:
        patches = F.interpolate(patches, scale_factor=(cells + 0.1) / side, mode="bicubic")
    return torch.cat([positions[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], 1)
