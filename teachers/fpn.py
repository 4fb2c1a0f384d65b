"""The feature pyramids of SAM 2 and 2.1 (Ravi et al. 2024), SAM 3 and EdgeTAM, and the stages of SAM 2's trunk.

They are loaded from `transformers` folders and hub ids, SAM 2 also from original checkpoints. The whole image is
stretched to a square, as in the official code. Maps are `fpn_hidden_states`, without the convolutions that SAM 2
applies to the two finest maps when it predicts masks: they belong to its mask decoder. The finest map of SAM 3 has
cells of 3.5 pixels and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from cache.spec import FeatureSpec, MapSpec
from teachers.base import Teacher
from teachers.choice import Choice, choose_levels, require_multiple, require_strides, require_unset
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, SquareResize
from teachers.weights.known import SETTINGS
from teachers.weights.locate import locate, vision_config
from teachers.weights.names import renamed, rest_of
from teachers.weights.originals import PREFIX, sam2_settings
from teachers.weights.tensors import read_shapes, sha256
from teachers.weights.transformers import load_network, settings_of

_CENTRED = (127.5, 127.5, 127.5)


class Family(NamedTuple):
    """The differences between the models; `library` is the prefix of their class names in `transformers`."""

    name: str
    title: str
    library: str
    kinds: tuple[str, ...]
    licence: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


SAM2 = Family("sam2", "SAM 2", "Sam2", ("sam2", "sam2_video", "sam2_vision_model"), "Apache-2.0")
SAM3 = Family(
    "fpn", "SAM 3", "Sam3", ("sam3", "sam3_video", "sam3_tracker", "sam3_tracker_video", "sam3_vision_model"),
    "SAM License", _CENTRED, _CENTRED,
)  # fmt: skip
EDGETAM = Family(
    "fpn", "EdgeTAM", "EdgeTam", ("edgetam", "edgetam_video", "edgetam_vision_model"), "see the card of the weights"
)
FAMILIES = {kind: family for family in (SAM2, SAM3, EDGETAM) for kind in family.kinds}


class FpnTeacher(Teacher):
    """Maps `fpn0`, `fpn1`, ... from fine to coarse (SAM 2: strides 4, 8, 16, with 256 channels each).

    SAM 2 also has `stage0` to `stage3` of its trunk, at strides 4, 8, 16, 32. By default the maps are the whole
    pyramid. Prompt encoder, mask decoder, detector and memory are never read.
    """

    example = "facebook/sam2.1-hiera-tiny"

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> FpnTeacher:
        """Loads a folder of a whole model or of its vision encoder, for SAM 2 also an original checkpoint.

        Arguments and errors as in `teachers.load`; `strides` choose maps of the pyramid, `levels` stages of the trunk.
        """
        require_unset(choice, "model", teacher="fpn")
        files = locate(weights, teacher="sam2", example=cls.example, originals=True)
        found = read_shapes(files.model)
        if original := any(name.startswith(PREFIX) for name in found):
            kind, settings = "sam2", sam2_settings(found, files.model)
        else:
            kind, settings = vision_config(files, tuple(FAMILIES), checkpoint="sam2.1_hiera_tiny.pt")
        family = FAMILIES[kind]
        config, network = _library(family, settings)
        size = _size(family, config, choice.image_size)
        spec = _choose(family, config, size, choice)
        described = "its own shapes describe" if original else "config.json describes"
        return cls(
            family.name,
            load_network(
                network,
                config,
                files.model,
                title=f"{family.title}'s vision encoder as {described} it",
                name_of=(lambda name: renamed(name, "sam2")) if original else str,
                rest=rest_of("sam2") if original else (),
            ),
            spec=spec,
            preprocessing=SquareResize(size, family.mean, family.std),
            facts={"model": _facts(family, config, settings), "weights": sha256(files.model)},
            licence=family.licence,
        )

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Teacher.maps`."""
        stages: Sequence[Tensor] = ()
        if any(name.startswith("stage") for name in self.spec.names):
            stages = self.network.get_submodule("backbone")(pixels).intermediate_hidden_states
            pyramid = reversed(self.network.get_submodule("neck")(stages)[0])
        else:
            pyramid = self.network(pixels).fpn_hidden_states
        maps = {f"stage{index}": value.permute(0, 3, 1, 2) for index, value in enumerate(stages)}
        maps |= {f"fpn{index}": value for index, value in enumerate(pyramid)}
        return {name: maps[name] for name in self.spec.names}


def _library(family: Family, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """The configuration and the class of the network; ValueError if the installed transformers has none."""
    import transformers

    names = f"{family.library}VisionConfig", f"{family.library}VisionModel"
    if not hasattr(transformers, names[1]):
        raise ValueError(
            f"{family.title} needs transformers with {names[1]}, but {transformers.__version__} has none; "
            "install a newer one"
        )
    config, network = (getattr(transformers, name) for name in names)
    return config.from_dict(dict(settings)), network


def _facts(family: Family, config: Any, settings: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """The settings on which the features depend."""
    if family is SAM2:
        trunk = {key: getattr(config.backbone_config, key) for key in SETTINGS["sam2_trunk"]}
        return trunk | {key: getattr(config, key) for key in SETTINGS["sam2_neck"]}
    backbone = settings.get("backbone_config") or {}
    return {"kind": family.title, "backbone": settings_of(backbone), **settings_of(settings)}


def _strides(family: Family, config: Any) -> list[float]:  # noqa: ANN401
    """The strides in pixels, from fine to coarse, of the pyramid's maps and of deeper stages."""
    trunk = config.backbone_config
    if family is SAM2:
        halved = [min(stage, trunk.num_query_pool_stages) for stage in range(len(trunk.blocks_per_stage))]
        return [trunk.patch_stride[0] * trunk.query_stride[0] ** times for times in halved]
    if family is SAM3:
        return [trunk.patch_size / factor for factor in config.scale_factors]
    return [4 * 2**level for level in range(len(config.backbone_channel_list))]


def _size(family: Family, config: Any, image_size: int | None) -> int:  # noqa: ANN401
    """Side of the square image: the weights' own, or another one that whole windows of positions and cells cover."""
    trunk, coarsest = config.backbone_config, int(_strides(family, config)[-1])
    own = getattr(trunk, "image_size", 1024)
    size = int(image_size or (own if isinstance(own, int) else own[0]))
    window = trunk.patch_stride[0] * trunk.window_size_per_stage[0] if family is SAM2 else 1
    require_multiple(size, lcm(window, coarsest), cells=f"{family.title}'s windows")
    if family is SAM3:
        trunk.image_size = size  # its rotary positions are computed for one size
    return size


def _choose(family: Family, config: Any, size: int, choice: Choice) -> FeatureSpec:  # noqa: ANN401
    """Maps of the pyramid by stride, stages by number; the whole pyramid by default."""
    strides = _strides(family, config)
    count = config.num_feature_levels if family is not SAM3 else len(strides)
    pyramid = {
        int(stride): MapSpec(f"fpn{index}", config.fpn_hidden_size, (int(size // stride),) * 2, int(stride))
        for index, stride in enumerate(strides[:count])
        if stride == int(stride)
    }
    wanted = sorted(set(choice.strides or ()))
    require_strides(wanted, tuple(pyramid), network=f"{family.title}'s pyramid")
    if choice.levels and family is not SAM2:
        raise ValueError(
            f"levels choose stages of SAM 2's trunk, but these are weights of {family.title}, got "
            f"levels={list(choice.levels)}; choose by strides"
        )
    widths = config.backbone_config.embed_dim_per_stage if family is SAM2 else ()
    deep = choose_levels(choice.levels, len(widths), weights=family.title, kind="stages")
    stages = [
        MapSpec(f"stage{level}", widths[level], (int(size // strides[level]),) * 2, int(strides[level]))
        for level in deep
    ]
    return FeatureSpec(tuple([pyramid[stride] for stride in wanted] + stages or pyramid.values()))
