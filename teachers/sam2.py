"""SAM 2 and 2.1 (Ravi et al. 2024): the feature pyramid of the vision encoder, and the stages of its Hiera trunk.

From `transformers` folders and hub ids, and from the original checkpoints. As in the original, the whole image is
stretched to a square.

The trunk begins with a convolution of 7 pixels at stride 4 whose windows are centred on pixel 4 i, 1.5 pixels above and
left of the centre of its cell: 0.4 cells at stride 4, 0.1 at stride 16. It is left as it is, as in `teachers.timm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cache.spec import FeatureSpec, MapSpec
from teachers.base import Teacher
from teachers.choice import Choice, choose_levels, require_multiple, require_unset
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, SquareResize
from teachers.weights.locate import WeightFiles, locate, vision_config
from teachers.weights.sam2_original import PREFIX, REST, original_name, settings_of_original
from teachers.weights.tensors import put_tensors, read_shapes, sha256

_EXAMPLE = "facebook/sam2.1-hiera-tiny"
_PREFIX = "vision_encoder."
_REST_OF_SAM2 = (
    "prompt_encoder.", "mask_decoder.", "shared_image_embedding.", "memory_", "mask_downsample.", "no_memory_",
    "no_object_pointer", "object_pointer_proj.", "occlusion_spatial_embedding_parameter",
    "temporal_positional_encoding_projection_layer.",
)  # fmt: skip
_TRUNK = (
    "hidden_size", "blocks_per_stage", "embed_dim_per_stage", "num_attention_heads_per_stage",
    "window_size_per_stage", "global_attention_blocks", "window_positional_embedding_background_size",
    "num_query_pool_stages", "mlp_ratio", "hidden_act", "layer_norm_eps",
)  # fmt: skip
_NECK = ("fpn_hidden_size", "fpn_kernel_size", "fpn_top_down_levels", "num_feature_levels")


class Sam2Teacher(Teacher):
    """Maps `fpn0`, `fpn1`, `fpn2` at strides 4, 8, 16 (256 channels each), and `stage0` to `stage3` at 4, 8, 16, 32.

    Of these, the three of the pyramid unless chosen; prompt encoder, mask decoder and memory are never read.
    """

    example = _EXAMPLE

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> Sam2Teacher:
        """Loads a folder of `Sam2Model`, `Sam2VideoModel` or `Sam2VisionModel`, or an original checkpoint.

        Arguments and errors as in `teachers.load`; `strides` choose maps of the pyramid, `levels` stages of the trunk.
        """
        require_unset(choice, "model", teacher="sam2")
        files = locate(weights, example=_EXAMPLE, originals=True)
        found = read_shapes(files.model)
        original = any(name.startswith(PREFIX) for name in found)
        config = _config(files, found, original=original)
        size = _size(config, choice.image_size)
        spec = FeatureSpec(_choose(_all_maps(config, size), choice.levels, choice.strides))
        return cls(
            "sam2",
            _network(files.model, found, config, original=original),
            spec=spec,
            preprocessing=SquareResize(size, IMAGENET_MEAN, IMAGENET_STD),
            facts={
                "model": {key: getattr(config.backbone_config, key) for key in _TRUNK}
                | {key: getattr(config, key) for key in _NECK},
                "weights": sha256(files.model),
            },
            licence="Apache-2.0",
        )

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Teacher.maps`."""
        stages = self.network.get_submodule("backbone")(pixels).intermediate_hidden_states
        maps = {f"stage{index}": value.permute(0, 3, 1, 2) for index, value in enumerate(stages)}
        if any(name.startswith("fpn") for name in self.spec.names):
            pyramid, _ = self.network.get_submodule("neck")(stages)
            maps |= {f"fpn{index}": value for index, value in enumerate(reversed(pyramid))}
        return {name: maps[name] for name in self.spec.names}


def _config(files: WeightFiles, found: Mapping[str, tuple[int, ...]], *, original: bool) -> Any:  # noqa: ANN401
    """The Sam2VisionConfig of a checkpoint's shapes, or else of config.json."""
    from transformers import Sam2VisionConfig

    if original:
        return Sam2VisionConfig.from_dict(settings_of_original(found, files.model))
    kinds, checkpoint = ("sam2", "sam2_video", "sam2_vision_model"), "sam2.1_hiera_tiny.pt"
    settings = vision_config(files, kinds, teacher="sam2", example=_EXAMPLE, checkpoint=checkpoint)
    return Sam2VisionConfig.from_dict(settings)


def _strides(config: Any) -> list[int]:  # noqa: ANN401
    """The stride of every stage of the trunk, in pixels."""
    trunk = config.backbone_config
    halved = [min(stage, trunk.num_query_pool_stages) for stage in range(len(trunk.blocks_per_stage))]
    return [trunk.patch_stride[0] * trunk.query_stride[0] ** times for times in halved]


def _size(config: Any, image_size: int | None) -> int:  # noqa: ANN401
    """Side of the square image: the weights' own, or another that whole windows of positions and whole cells cover."""
    trunk = config.backbone_config
    own = trunk.image_size if isinstance(trunk.image_size, int) else trunk.image_size[0]
    size = image_size or own
    step = lcm(trunk.patch_stride[0] * trunk.window_size_per_stage[0], _strides(config)[-1])
    require_multiple(size, step, cells="SAM 2's windows")
    return int(size)


def _all_maps(config: Any, size: int) -> list[MapSpec]:  # noqa: ANN401
    """Every map there is: the pyramid, then the stages."""
    strides, trunk = _strides(config), config.backbone_config
    channels = [config.fpn_hidden_size] * config.num_feature_levels
    maps = [("fpn", *entry) for entry in enumerate(zip(channels, strides, strict=False))]
    maps += [("stage", *entry) for entry in enumerate(zip(trunk.embed_dim_per_stage, strides, strict=True))]
    return [
        MapSpec(f"{kind}{index}", width, (size // stride, size // stride), stride)
        for kind, index, (width, stride) in maps
    ]


def _choose(
    maps: Sequence[MapSpec], levels: Sequence[int] | None, strides: Sequence[int] | None
) -> tuple[MapSpec, ...]:
    """Maps of the pyramid by stride, stages by number; the whole pyramid by default."""
    pyramid = {entry.stride: entry for entry in maps if entry.name.startswith("fpn")}
    stages = [entry for entry in maps if entry.name.startswith("stage")]
    wanted = sorted(set(strides or ()))
    deep = choose_levels(levels, len(stages), weights="SAM 2", kind="stages")
    if not set(wanted) <= pyramid.keys():
        raise ValueError(f"SAM 2's pyramid has strides {', '.join(map(str, pyramid))}, got strides={wanted}")
    return tuple([pyramid[stride] for stride in wanted] + [stages[level] for level in deep] or pyramid.values())


def _network(
    path: Path,
    found: Mapping[str, tuple[int, ...]],
    config: Any,  # noqa: ANN401
    *,
    original: bool,
) -> nn.Module:
    """The vision encoder with its weights in float32; of a safetensors file only its own tensors are read."""
    from transformers import Sam2VisionModel

    with torch.device("meta"):  # nothing is initialised only to be overwritten
        network = Sam2VisionModel(config)
    whole = any(name.startswith(_PREFIX) for name in found)
    prefix = PREFIX if original else _PREFIX if whole else ""
    rest = REST if original else _REST_OF_SAM2 if whole else ()
    names = {name: original_name(name) if original else name for name in network.state_dict()}
    title = f"SAM 2's vision encoder as {'its own shapes describe' if original else 'config.json describes'} it"
    put_tensors(network, path, found, names=names, prefix=prefix, rest=rest, title=title)
    return network
