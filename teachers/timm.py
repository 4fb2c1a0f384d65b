"""Any backbone of timm: chosen levels of its feature pyramid, under the network's final norm if it has one.

The norm is applied where timm's `forward_intermediates(norm=True)` applies it: to every block of a vision transformer,
to the last stage of a Swin, nowhere in an EfficientNet or ConvNeXt. timm interpolates positions to other sizes.

Strided convolutions put the centre of a cell's receptive field up to (stride - 1) / 2 pixels from the centre of the
cell (towards the bottom right if padding follows TensorFlow, `tf_...`, otherwise towards the top left). The response
of trained weights is closer: with TRACER's EfficientNet-B0 the response to a changed square of a Kvasir-SEG image is
centred 0.03 cells (stride 8) and 0.15 cells (stride 16) away. This offset is not corrected: moving a map by a fraction
of a cell would blur it, and the features would no longer be those of the published network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cache.spec import FeatureSpec, MapSpec
from teachers.backbone import Backbone, find_backbone
from teachers.base import Teacher
from teachers.choice import Choice, choose_levels, require_multiple, require_strides
from teachers.preprocess import INTERPOLATIONS, SquareResize, statistics_of
from teachers.weights.known import NEAREST
from teachers.weights.names import in_pyramids
from teachers.weights.tensors import read_shapes, read_state, require_shapes, sha256, shapes_of


class TimmTeacher(Teacher):
    """Levels of a timm backbone, each on a square grid that covers the image.

    Maps are named by their stride, `stride16`; if two levels share a stride (vision transformers), by stride and
    level, `stride16_level9`.
    """

    example = NEAREST

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> TimmTeacher:
        """Loads a backbone; arguments and errors as in `teachers.load`."""
        backbone = find_backbone(weights, choice.model)
        settings, arguments = backbone.settings, dict(backbone.arguments)
        size = choice.image_size or settings["input_size"][-1]
        if settings.get("fixed_input_size"):  # others take any size and do not have this argument
            backbone.arguments["img_size"] = size
        pyramid = _pyramid(backbone)
        chosen = _choose(pyramid, choice, backbone.architecture)
        require_multiple(size, max(pyramid[level] for level in chosen))
        network, normed = _load(backbone, chosen, size=size, norm=choice.norm)
        # Without a norm everything is as before this option existed, so that caches stay valid.
        own = settings.get("interpolation") if normed else None
        return cls(
            "timm",
            network,
            spec=_spec(network, chosen, pyramid, size),
            preprocessing=SquareResize(
                size,
                statistics_of(choice.mean or settings["mean"], "mean"),
                statistics_of(choice.std or settings["std"], "std"),
                own if own in INTERPOLATIONS else INTERPOLATIONS[0],
            ),
            facts={
                "model": backbone.architecture,
                "levels": chosen,
                **({"norm": "final"} if normed else {}),
                **({"arguments": arguments} if arguments else {}),
                "weights": sha256(backbone.path),
            },
            licence=backbone.licence,
        )


def _create(
    backbone: Backbone, *, whole: bool = False, levels: Sequence[int] | None = None, pretrained: bool = False
) -> nn.Module:
    """The backbone, whole or as a pyramid of features, with random weights or with those of its file."""
    import timm

    name = backbone.architecture.split(".")[0]
    file = {"file": str(backbone.path), "source": "", "custom_load": False}
    settings = {**backbone.settings, **file, "architecture": name}
    try:
        return timm.create_model(
            name,
            pretrained=pretrained,
            pretrained_cfg=settings,
            features_only=None if whole else True,
            out_indices=tuple(levels) if levels is not None else None,
            num_classes=settings.get("num_classes") if whole else None,
            **backbone.arguments,
        )
    except TypeError as error:
        if not backbone.arguments:
            raise
        raise ValueError(f"timm's '{name}' does not take model_args {backbone.arguments} ({error}); correct them in "
                         "config.json") from error  # fmt: skip


def _pyramid(backbone: Backbone) -> list[int]:
    """The stride of every level."""
    with torch.device("meta"):
        network: Any = _create(backbone)
    return [int(entry["reduction"]) for entry in network.feature_info.info]


def _choose(pyramid: Sequence[int], choice: Choice, model: str) -> list[int]:
    """The chosen levels, from shallow to deep; of several levels of one stride, the deepest."""
    levels, strides = choice.levels, choice.strides or (16,)
    if levels and choice.strides:
        raise ValueError(
            f"expected levels or strides, got levels={list(levels)} and strides={list(strides)}; leave one out"
        )
    if levels:
        kind = f"levels of strides {', '.join(map(str, pyramid))}, numbered"
        return choose_levels(levels, len(pyramid), weights=f"'{model}'", kind=kind)
    deepest = {stride: level for level, stride in enumerate(pyramid)}
    require_strides(strides, list(deepest), network=f"'{model}'")
    return sorted({deepest[stride] for stride in strides})


def _load(backbone: Backbone, levels: Sequence[int], *, size: int, norm: bool) -> tuple[nn.Module, bool]:
    """The pyramid with its weights, and whether a final norm changes its maps.

    The file must hold exactly the pyramid, or exactly the whole network.
    """
    found = read_shapes(backbone.path)
    with torch.device("meta"):
        network = _create(backbone, whole=True)
        whole, pyramid = shapes_of(network), shapes_of(_create(backbone))
    norm = norm and _has_norm(network)
    if min((whole, pyramid), key=lambda expected: len(expected.keys() ^ found.keys())) is pyramid:
        title = f"the feature levels of '{backbone.architecture}'"
        state = read_state(backbone.path, pyramid, network=title)
        with torch.random.fork_rng(devices=[]):
            if norm and _normed(_create(backbone, whole=True), levels, size):
                raise ValueError(
                    f"{backbone.path} holds {title} without its final norm; "
                    "give the whole network's weights, or norm=false for its maps before the norm"
                )
    else:
        network = _whole(backbone, found, whole)
        if norm and (normed := _normed(network, levels, size)):
            return normed.to(memory_format=torch.channels_last), True
        state = in_pyramids(network.state_dict())
    network = _create(backbone, levels=levels)
    network.load_state_dict({name: state[name] for name in network.state_dict()}, strict=True)
    return _channels_first(network), False


def _has_norm(network: nn.Module) -> bool:
    """Whether a module has a name under which timm may apply a final norm."""
    return any(
        name.startswith(("norm", "neck")) and not isinstance(module, nn.Identity)
        for name, module in network.named_children()
    )


def _normed(network: nn.Module, levels: Sequence[int], size: int) -> nn.Module | None:
    """The whole network as a pyramid under its final norm; None if no norm changes a map of these levels."""
    from timm.models._features import FeatureGetterNet

    if not hasattr(network, "forward_intermediates"):
        return None
    getter: Any = FeatureGetterNet(network.eval(), tuple(levels), norm=True, prune=False)
    with torch.inference_mode():
        try:
            normed = getter(torch.zeros(1, 3, size, size))
        except AssertionError:  # raised by timm if a network has no norm (Hiera)
            return None
        getter.norm = False
        plain = getter(torch.zeros(1, 3, size, size))
    if all(map(torch.equal, normed, plain)):
        return None
    return FeatureGetterNet(network, tuple(levels), norm=True)


def _whole(backbone: Backbone, found: Mapping[str, tuple[int, ...]], whole: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """The whole network, loaded strictly; timm itself is not strict when it builds a pyramid.

    The file's names need not match before loading, because timm converts those of some older files.
    """
    try:
        return _create(backbone, whole=True, pretrained=True)
    except (RuntimeError, KeyError) as error:
        network = f"'{backbone.architecture}'"
        size, own = backbone.arguments.get("img_size"), backbone.settings["input_size"][-1]
        if size not in (None, own):
            raise ValueError(
                f"the weights of {network} do not load at image_size={size}, only at its own {own}; leave it out"
            ) from error
        require_shapes(found, whole, path=backbone.path, network=network)
        raise ValueError(f"{backbone.path} is not the weights of {network}: {error}; give the matching file") from error


def _channels_first(network: nn.Module) -> nn.Module:
    """The network up to the deepest level, with maps (N, C, H, W) even if it keeps channels last (Swin).

    Unlike its other pyramids, timm's EfficientNets would run to the end.
    """
    from timm.models.efficientnet import EfficientNetFeatures

    if isinstance(network, EfficientNetFeatures):
        deepest = max(entry["stage"] for entry in network.feature_info.get_dicts())
        network.blocks = nn.Sequential(*list(network.blocks)[:deepest])
    if str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC"):
        network.register_forward_hook(lambda module, inputs, maps: [value.permute(0, 3, 1, 2) for value in maps])
    return network.to(memory_format=torch.channels_last)


def _spec(network: nn.Module, levels: Sequence[int], pyramid: Sequence[int], size: int) -> FeatureSpec:
    """Names by stride and level; channels and grids from a run of the network.

    The channels that timm states are wrong for a few backbones.
    """
    strides = [pyramid[level] for level in levels]
    with torch.inference_mode():
        values = network.eval()(torch.zeros(1, 3, size, size))
    maps = []
    for level, stride, value in zip(levels, strides, values, strict=True):
        name = f"stride{stride}_level{level}" if strides.count(stride) > 1 else f"stride{stride}"
        maps.append(MapSpec(name, value.shape[1], (value.shape[2], value.shape[3]), stride))
    return FeatureSpec(tuple(maps))
