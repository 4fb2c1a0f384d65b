"""Any vision model of `transformers`: patch tokens of chosen blocks, or stages, as its `AutoModel` computes them.

The last level is the network's `last_hidden_state`. Tokens of earlier blocks are taken under the same final norm, where
there is one; earlier stages are taken as they are. Class and register tokens are dropped. The backbones of
`AutoBackbone` are not used where a plain network gives the same: those of Swin and ConvNeXt have norms of their own, of
which the published encoders hold no weights.

Models of images and text are read for their vision model. The whole image is stretched to a square. Mean, standard
deviation, interpolation and size are those of preprocessor_config.json, where it lies beside the weights.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from teachers.base import Teacher
from teachers.choice import Choice, choose_levels, require_multiple, require_unset
from teachers.levels import QUIRKS, Levels, Quirk, depth_of, is_staged, side_of
from teachers.preprocess import SquareResize, statistics_of
from teachers.weights.known import license_of
from teachers.weights.locate import PREPROCESSOR, WeightFiles, beside, locate, read_config, require_config
from teachers.weights.tensors import read_shapes, sha256
from teachers.weights.transformers import load_network, settings_of

_EXAMPLE = "facebook/dinov3-vitb16-pretrain-lvd1689m"
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, in preprocessor_config.json
_SIZE = 224  # pixels, where nothing states one
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Pixel statistics of families whose published weights share them, for folders without a preprocessor_config.json.
_STATISTICS = {
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit", "dinov3_convnext"), _IMAGENET),
    **dict.fromkeys(("vit", "siglip_vision_model", "siglip2_vision_model"), _CENTRED),
    "radio": ((0, 0, 0), (1, 1, 1)),  # the network normalises its pixels itself
}
_HEADS = ("classifier.", "pooler.", "head.", "decoder.", "lm_head.", "layernorm.")  # parts of a file that may be unread


class TransformersTeacher(Teacher):
    """Maps `block0`, `block1`, ... of a vision transformer, or `stage0`, `stage1`, ... of a network of stages."""

    example = _EXAMPLE

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> TransformersTeacher:
        """Loads a folder or hub id of any vision model, alone or beside one of text or with a head.

        Arguments and errors as in `teachers.load`; `levels` are blocks or stages, counted from 0, the last one if None.
        """
        require_unset(choice, "model", "strides", teacher="transformers")
        files = locate(weights, example=_EXAMPLE)
        raw, config = _vision_config(files)
        kind, quirk = str(config.model_type), QUIRKS.get(str(config.model_type), Quirk())
        pixels = _preprocessing(files, str(weights), config, choice)
        depth, patch = depth_of(config), side_of(getattr(config, "patch_size", 1))
        chosen = choose_levels(
            choice.levels, depth, weights=kind, kind="stages" if is_staged(config) else "blocks", default=(depth - 1,)
        )
        require_multiple(pixels.size, 4 * 2 ** chosen[-1] if is_staged(config) else patch, cells=f"{kind}'s cells")
        network = Levels(_network(files.model, config, quirk), config, quirk, chosen, norm=choice.norm)
        spec = network.prepare(pixels.size)
        return cls(
            "transformers",
            network,
            spec=spec,
            preprocessing=pixels,
            facts={
                "model": settings_of(raw),
                "levels": chosen,
                "norm": choice.norm,
                "weights": sha256(files.model),
            },
            licence=license_of(str(weights), kind),
        )

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Teacher.maps`."""
        return dict(zip(self.spec.names, self.network(pixels), strict=True))


def _vision_config(files: WeightFiles) -> tuple[dict[str, Any], Any]:
    """The settings of the vision model in config.json, as written and as the library's object."""
    from transformers import CONFIG_MAPPING

    path = require_config(files, example=_EXAMPLE)
    raw = read_config(path)
    kind = str(raw.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise ValueError(
            f"{path} describes a model of type '{kind}', but teacher 'transformers' needs a vision model that the "
            f"installed transformers knows; `hf download {_EXAMPLE}` gets one"
        )
    config = CONFIG_MAPPING[kind].from_dict(dict(raw))
    if hasattr(config, "vision_config"):
        config = config.vision_config
        raw = {**(raw.get("vision_config") or {}), "model_type": config.model_type}
    if not hasattr(config, "num_channels") and not hasattr(config, "patch_size"):
        raise ValueError(
            f"{path} describes a model of type '{kind}', but teacher 'transformers' needs a vision model; "
            f"`hf download {_EXAMPLE}` gets one"
        )
    quirk = QUIRKS.get(str(config.model_type), Quirk())
    for name, value in quirk.settings.items():
        setattr(config, name, value)
    if quirk.backbone:
        config.out_indices = list(range(len(config.stage_names) - depth_of(config), len(config.stage_names)))
    return raw, config


def _network(path: Path, config: Any, quirk: Quirk) -> nn.Module:  # noqa: ANN401
    """The network with its weights in float32, after a strict comparison."""
    from transformers.models.auto import modeling_auto as auto

    mapping = auto.MODEL_FOR_BACKBONE_MAPPING if quirk.backbone else auto.MODEL_MAPPING
    kind: Any = mapping[type(config)]
    pooled = "add_pooling_layer" in inspect.signature(kind).parameters
    return load_network(
        kind,
        config,
        path,
        read_shapes(path),
        rest=_HEADS,
        options={"add_pooling_layer": False} if pooled else {},
        title=f"{config.model_type} as its config.json describes it",
    )


def _preprocessing(files: WeightFiles, weights: str, config: Any, choice: Choice) -> SquareResize:  # noqa: ANN401
    """The pixels that the weights expect: by the recipe, else by preprocessor_config.json, else by their family.

    Raises:
        ValueError: none of them says it.
    """
    path = beside(files, weights, PREPROCESSOR)
    stated = read_config(path) if path else {}
    default = _STATISTICS.get(config.model_type, (None, None))
    mean, std = choice.mean or default[0], choice.std or default[1]
    if stated and config.model_type != "radio":
        mean, std = choice.mean or stated.get("image_mean") or mean, choice.std or stated.get("image_std") or std
    if mean is None or std is None:
        raise ValueError(
            f"no {PREPROCESSOR} beside {files.model} says which pixels a {config.model_type} of these weights expects; "
            "get it from the weights' page, or give mean and std"
        )
    own = getattr(config, "image_size", None)
    return SquareResize(
        choice.image_size or (side_of(own) if own else _SIZE),
        statistics_of(mean, "mean"),
        statistics_of(std, "std"),
        _RESAMPLE.get(stated.get("resample", 2), "bilinear"),
    )
