"""DINOv2 (Oquab et al. 2023; with registers: Darcet et al. 2023): normed patch tokens of chosen blocks.

At other sizes than the weights' own, positions are resized once while loading, bicubically, as in the original code
(dinov2/models/vision_transformer.py with the settings of dinov2/hub/backbones.py). Without registers the scale is
(n + 0.1) / m for n cells out of m, a historical trick that shifts the samples, without antialiasing. With registers
positions are resized to the plain size, antialiased. `transformers` does the latter, but leaves out the 0.1 in the
former case. At the weights' own 518 pixels nothing is resized, and both agree.

The processor of these weights crops the centre of an image, so its features do not cover the image. Here the whole
image is stretched to a square instead, and the maps cover it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from teachers.base import Teacher
from teachers.choice import Choice, choose_levels, require_multiple, require_unset
from teachers.levels import Levels
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, SquareResize
from teachers.weights.known import SETTINGS
from teachers.weights.locate import WeightFiles, locate, read_config, require_kind, sides_of
from teachers.weights.originals import MASK, POSITIONS, dinov2_config, dinov2_names
from teachers.weights.tensors import Shapes, read_shapes, read_state, sha256
from teachers.weights.transformers import file_shapes, network_of


class Dinov2Teacher(Teacher):
    """Maps `block0`, `block1`, ...: the tokens after that block, under the final norm, arranged as an image.

    Each has hidden_size channels (base: 768) on image_size / 14 (37 x 37) cells. Class and register tokens are dropped.
    """

    example = "facebook/dinov2-base"

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> Dinov2Teacher:
        """Loads a folder of `Dinov2Model` or `Dinov2WithRegistersModel`, one of timm's, or an original checkpoint.

        Arguments and errors as in `teachers.load`; `levels` are blocks, counted from 0, the last one if None.
        """
        require_unset(choice, "model", "strides", teacher="dinov2")
        files = locate(weights, teacher="dinov2", example=cls.example, originals=True)
        found = read_shapes(files.model)
        config = _config(files, found)
        model = {key: getattr(config, key) for key in SETTINGS["dinov2"]}
        model["registers"] = getattr(config, "num_register_tokens", 0)
        size, depth = choice.image_size or config.image_size, config.num_hidden_layers
        require_multiple(size, config.patch_size, cells="DINOv2's patches")
        blocks = choose_levels(choice.levels, depth, weights="DINOv2", default=(depth - 1,))
        network = Levels(_network(files.model, found, config, size=size), blocks, norm=True)
        spec = network.prepare(size)
        assert network.norm is not None, "every block is taken under the final norm"
        return cls(
            "dinov2",
            network,
            spec=spec,
            preprocessing=SquareResize(size, IMAGENET_MEAN, IMAGENET_STD),
            facts={"model": model, "levels": blocks, "weights": sha256(files.model)},
            licence="Apache-2.0",
        )


def _config(files: WeightFiles, found: Shapes) -> Any:  # noqa: ANN401
    """The configuration, from a config.json of `transformers` or else from the shapes of the tensors."""
    from transformers import CONFIG_MAPPING

    raw = read_config(files.config)
    if POSITIONS in found or (raw and "dinov2" not in str(raw.get("architecture"))):  # else timm's, or an original
        raw = require_kind(files, ("dinov2", "dinov2_with_registers"))
        config = CONFIG_MAPPING[raw["model_type"]].from_dict(dict(raw))
        sides_of(config, str(files.config))
        return config
    return dinov2_config(found, files.model)


def shapes_in(found: Shapes, config: Any) -> dict[str, tuple[int, ...]]:  # noqa: ANN401
    """Name (in the files of `transformers`) and shape of every tensor that a file of this kind must hold."""
    from transformers import AutoModel

    with torch.device("meta"):
        shapes = file_shapes(AutoModel.from_config(config))
    # Queries, keys, values: their order in the one tensor of an original checkpoint.
    shapes = dict(sorted(shapes.items(), key=lambda item: (".query." not in item[0], ".key." not in item[0])))
    if dinov2_names(found)(MASK) not in found:
        del shapes[MASK]
    if "reg_token" in found:  # timm has added the class token's position to the token itself
        _, tokens, width = shapes[POSITIONS]
        shapes[POSITIONS] = (1, tokens - 1, width)
    return shapes


def _network(path: Path, found: Shapes, config: Any, *, size: int) -> Any:  # noqa: ANN401
    """The network with strictly compared weights in float32 and with positions for images of `size` pixels."""
    from transformers import MODEL_MAPPING

    title = "DINOv2 as its config.json or its own shapes describe it"
    state = read_state(path, shapes_in(found, config), network=title, name_of=dinov2_names(found))
    state = {MASK: torch.zeros(1, config.hidden_size)} | state
    if "reg_token" in found:
        state[POSITIONS] = F.pad(state[POSITIONS], (0, 0, 1, 0))
    cells, antialias = size // config.patch_size, hasattr(config, "num_register_tokens")
    state[POSITIONS] = resize_positions(state[POSITIONS], cells, antialias=antialias)
    config.image_size = size
    return network_of(MODEL_MAPPING[type(config)], config, state)


def resize_positions(positions: Tensor, cells: int, *, antialias: bool) -> Tensor:
    """Position embeddings for another grid, as the original code resizes them.

    Args:
        positions: float tensor (1, 1 + m * m, C), the class token's first.
        cells: n, the side of the wanted grid.
        antialias: True as for the networks with registers; False shifts the scale by the 0.1 of those without.

    Returns:
        float tensor (1, 1 + n * n, C); `positions` itself if n = m.
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
