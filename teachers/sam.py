"""SAM: the image embedding of Segment Anything (Kirillov et al. 2023).

From `transformers` folders and hub ids, and from the checkpoints of `segment_anything` and MedSAM (Ma et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cache.spec import FeatureSpec, MapSpec
from teachers.base import Choice, Teacher
from teachers.checkpoint import SUFFIXES
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, Letterbox
from teachers.sam_original import PREFIX, config_of_original, original_name
from teachers.weights import MODEL, WeightFiles, locate, put_tensors, read_config, read_shapes, require_config, sha256

if TYPE_CHECKING:
    from transformers import SamVisionConfig

BUILTIN = Path(__file__).parent / "builtin"
_EXAMPLE = "facebook/sam-vit-base"
_PREFIX = "vision_encoder."
_REST_OF_SAM = ("prompt_encoder.", "mask_decoder.", "shared_image_embedding.")
_ARCHITECTURE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "output_channels",
    "patch_size",
    "window_size",
    "global_attn_indexes",
    "mlp_dim",
    "hidden_act",
    "layer_norm_eps",
    "qkv_bias",
    "use_abs_pos",
    "use_rel_pos",
)


class SamTeacher(Teacher):
    """The vision encoder of SAM with its neck; the prompt encoder and the mask decoder are never read.

    One map, `neck`: output_channels (256) on a grid of image_size / patch_size (64 x 64) cells that cover the image.
    """

    example = _EXAMPLE

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> SamTeacher:
        """Loads a folder of `SamModel` or `SamVisionModel`, or an original checkpoint, of any size.

        Arguments and errors as in `teachers.load`.
        """
        model, levels, strides, image_size, _ = choice
        if model is not None or levels or strides:
            raise ValueError(
                "teacher 'sam' has one map, its neck, and its weights say which model it is: leave out model, levels "
                f"and strides; got model={model}, levels={levels}, strides={strides}"
            )
        files = _locate(weights)
        found = read_shapes(files.model)
        original = any(name.startswith(PREFIX) for name in found)
        config = config_of_original(found, files.model) if original else _vision_config(files)
        size, patch = _sizes(config)
        if image_size not in (None, size):
            raise ValueError(
                f"these SAM weights see images of {size} pixels, got image_size={image_size}; leave it out"
            )
        grid = (size // patch, size // patch)
        return cls(
            "sam",
            _encoder(files.model, found, config, original=original),
            spec=FeatureSpec((MapSpec("neck", config.output_channels, grid, patch),)),
            preprocessing=Letterbox(size, IMAGENET_MEAN, IMAGENET_STD),
            facts={
                "model": {key: getattr(config, key) for key in _ARCHITECTURE},
                "weights": sha256(files.model),
            },
            licence="Apache-2.0",
        )

    def _maps(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"neck": self.network(pixels).last_hidden_state}


def _locate(weights: str | Path) -> WeightFiles:
    if str(weights) == "builtin":
        if not (BUILTIN / MODEL).is_file():
            raise FileNotFoundError(
                f"no built-in teacher: looked for {BUILTIN / MODEL}; install the package again from its repository, or "
                "train one with `distill run recipe=builtin_teacher`"
            )
        return locate(BUILTIN, example=_EXAMPLE)
    return locate(weights, example=_EXAMPLE, originals=True)


def _vision_config(files: WeightFiles) -> SamVisionConfig:
    """The configuration of the encoder, checked to be one."""
    from transformers import SamVisionConfig

    if files.model.suffix in SUFFIXES:
        raise ValueError(
            f"{files.model} is no checkpoint of segment_anything or MedSAM: it holds no tensor {PREFIX}*; give "
            f"sam_vit_b_01ec64.pth or medsam_vit_b.pth, say, or weights={_EXAMPLE}"
        )
    raw = read_config(require_config(files, example=_EXAMPLE))
    kind = raw.get("model_type")
    if kind == "sam":
        return SamVisionConfig.from_dict(raw.get("vision_config") or {})
    if kind == "sam_vision_model":
        return SamVisionConfig.from_dict(raw)
    raise ValueError(
        f"{files.config} describes a model of type '{kind}', but teacher 'sam' needs 'sam' or 'sam_vision_model'; "
        f"`hf download {_EXAMPLE}` gets one"
    )


def _sizes(config: SamVisionConfig) -> tuple[int, int]:
    """Sides of the square image and of a patch, in pixels."""
    image, patch = config.image_size, config.patch_size
    if not isinstance(image, int) or not isinstance(patch, int) or image % patch:
        raise ValueError(
            f"expected image_size in SAM's config.json to be a whole multiple of patch_size {patch}, got {image}; "
            "correct the file"
        )
    return image, patch


def _encoder(
    path: Path, found: Mapping[str, tuple[int, ...]], config: SamVisionConfig, *, original: bool
) -> torch.nn.Module:
    """The encoder with its weights in float32; of a safetensors file only its own tensors are read."""
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    with torch.device("meta"):  # nothing is initialised only to be overwritten
        encoder = SamVisionEncoder(config)
    prefix = PREFIX if original else _PREFIX
    names = {name: original_name(name) if original else name for name in encoder.state_dict()}
    called = f"SAM's vision encoder as {'its own shapes describe' if original else 'config.json describes'} it"
    put_tensors(encoder, path, found, names=names, prefix=prefix, rest=_REST_OF_SAM, called=called)
    return encoder
