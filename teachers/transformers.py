"""Any vision model of `transformers`: patch tokens of chosen blocks, or stages, as its `AutoModel` computes them.

The last level is the network's `last_hidden_state`. Tokens of earlier blocks are taken under the same final norm, if
there is one; earlier stages are taken unchanged. Class and register tokens are dropped. The backbones of `AutoBackbone`
are not used if a plain network gives the same maps: those of Swin and ConvNeXt have norms of their own, for which the
published encoders hold no weights.

Of models of images and text only the vision model is read. The whole image is stretched to a square of the size that
config.json states. Mean, standard deviation and interpolation are those of preprocessor_config.json, if it lies beside
the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from pathlib import Path
from typing import Any

from teachers.base import Teacher
from teachers.choice import Choice, choose_levels, require_multiple, require_unset
from teachers.levels import Levels, layout_of, quirk_of, side_of
from teachers.preprocess import SquareResize, statistics_of
from teachers.weights.known import FAMILIES, license_of
from teachers.weights.locate import PREPROCESSOR, WeightFiles, beside, locate, other_kind, read_config, require_config
from teachers.weights.tensors import sha256
from teachers.weights.transformers import load_network, settings_of

_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as used in preprocessor_config.json
_RESCALE = 1 / 255  # the factor to [0, 1], in that file
_SIZE = 224  # pixels, if nothing states a size
# Parts of a file that need not be read.
_UNREAD = ("classifier.", "pooler.", "head.", "decoder.", "lm_head.", "layernorm.")


class TransformersTeacher(Teacher):
    """Maps `block0`, `block1`, ... of a vision transformer, or `stage0`, `stage1`, ... of a network of stages."""

    example = "facebook/dinov3-vitb16-pretrain-lvd1689m"

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> TransformersTeacher:
        """Loads a folder or hub id of any vision model, alone, with a text model, or with a head.

        Arguments and errors as in `teachers.load`; `levels` are blocks or stages, counted from 0, the last one if None.
        """
        require_unset(choice, "model", "strides", teacher="transformers")
        files = locate(weights, teacher="transformers", example=cls.example)
        raw, config = _vision_config(files)
        pixels = _preprocessing(files, str(weights), config, choice)
        family, (staged, depth, patch) = str(config.model_type), layout_of(config)
        kind = "stages" if staged else "blocks"
        chosen = choose_levels(choice.levels, depth, weights=family, kind=kind, default=(depth - 1,))
        require_multiple(pixels.size, 4 * 2 ** chosen[-1] if staged else patch, cells=f"{family}'s cells")
        title = f"{family} as its config.json describes it"
        whole = load_network(_classes(config)[type(config)], config, files.model, rest=_UNREAD, title=title)
        network = Levels(whole, chosen, norm=choice.norm)
        return cls(
            "transformers",
            network,
            spec=network.prepare(pixels.size),
            preprocessing=pixels,
            facts={"model": settings_of(raw), "levels": chosen, "norm": choice.norm, "weights": sha256(files.model)},
            licence=license_of(str(weights), family),
        )


def _vision_config(files: WeightFiles) -> tuple[dict[str, Any], Any]:
    """The settings of the vision model in config.json, as written there and as an object of the library."""
    from transformers import CONFIG_MAPPING

    raw = require_config(files)
    refusal = other_kind(files, raw, "a vision model that AutoModel of the installed transformers builds")
    if (family := str(raw.get("model_type"))) not in CONFIG_MAPPING:
        raise refusal
    config = CONFIG_MAPPING[family].from_dict(dict(raw))
    if hasattr(config, "vision_config"):
        config = config.vision_config
        raw = {**(raw.get("vision_config") or {}), "model_type": config.model_type}
    is_visual = hasattr(config, "num_channels") or hasattr(config, "patch_size")
    if not is_visual or type(config) not in _classes(config):
        raise refusal
    for name, value in quirk_of(config).settings.items():
        setattr(config, name, value)
    if quirk_of(config).backbone:
        config.out_indices = list(range(len(config.stage_names) - layout_of(config)[1], len(config.stage_names)))
    return raw, config


def _classes(config: Any) -> Any:  # noqa: ANN401
    """Class of a configuration -> class of its network, from `AutoModel`, or `AutoBackbone` if the quirk needs it."""
    from transformers.models.auto import modeling_auto as auto

    return auto.MODEL_FOR_BACKBONE_MAPPING if quirk_of(config).backbone else auto.MODEL_MAPPING


def _preprocessing(files: WeightFiles, weights: str, config: Any, choice: Choice) -> SquareResize:  # noqa: ANN401
    """The pixels that the weights expect, from the recipe, else preprocessor_config.json, else their family.

    Raises:
        ValueError: if none of these says it, or preprocessor_config.json needs something that `SquareResize` lacks.
    """
    path = beside(files, weights, PREPROCESSOR)
    stated = read_config(path)
    own = (None, None) if choice.mean and choice.std else _statistics(stated, config, path)
    mean, std = choice.mean or own[0], choice.std or own[1]
    if mean is None or std is None:
        raise ValueError(
            f"no {PREPROCESSOR} beside {files.model} says which pixels a {config.model_type} of these weights expects; "
            "get it from the weights' page, or give mean and std"
        )
    if (resample := stated.get("resample", 2)) not in _RESAMPLE:
        raise ValueError(
            f"expected resample in {path} to be 2 (bilinear) or 3 (bicubic), got {resample}; write the nearer one there"
        )
    size = choice.image_size or side_of(getattr(config, "image_size", None) or _SIZE)
    return SquareResize(size, statistics_of(mean, "mean"), statistics_of(std, "std"), _RESAMPLE[resample])


def _statistics(stated: Mapping[str, Any], config: Any, path: Path | None) -> tuple[Any, Any]:  # noqa: ANN401
    """Mean and standard deviation of the weights' pixels, each None if not stated; errors as in `_preprocessing`."""
    factor = stated.get("rescale_factor", _RESCALE) if stated.get("do_rescale", True) else 1
    if not isclose(factor, _RESCALE, rel_tol=1e-3):
        raise ValueError(
            f"expected {path} to scale pixels to [0, 1] (do_rescale, rescale_factor 1/255), got a factor of {factor}; "
            "give mean and std for such pixels"
        )
    if quirk_of(config).normalises or not stated.get("do_normalize", True):
        return (0, 0, 0), (1, 1, 1)
    of_family = FAMILIES.get(config.model_type, {})
    return stated.get("image_mean") or of_family.get("mean"), stated.get("image_std") or of_family.get("std")
