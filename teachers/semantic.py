"""The shared part of OneFormer and Mask2Former: states of the pixel decoder, and a soft mask by their own rule.

Both segment by queries: each has a distribution over classes (and none of them) and a mask. Their
post-processing scores class c at a pixel by the sum over queries of its probability times the mask's, and takes the
class of the largest score. A soft mask of chosen classes is their share of all scores, as a logit: it is positive where
together they outweigh the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cache.spec import LOGIT_CLIP, MASK, FeatureSpec, MapSpec
from teachers.choice import Choice, require_multiple, require_unset
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, SquareResize
from teachers.weights.locate import locate, require_kind
from teachers.weights.tensors import read_shapes, sha256
from teachers.weights.transformers import load_network

_SMALLEST = 1e-6  # score that counts
_SHOWN = 5  # classes that a message names
_BACKBONE = ("model_type", "embed_dim", "depths", "num_heads", "window_size")
# Tensors that only training or older versions read: a file may hold them or not.
_UNREAD = ("criterion.", "text_mapper.", "relative_position_index")


class Family(NamedTuple):
    """The differences between the two models.

    Attributes:
        name: in the registry, and as `model_type` in config.json.
        title: the name in messages.
        example: a hub id.
        licence: of the published weights.
        image_size: side of the square that its processor aims at, in pixels.
        strides: of the pixel decoder's states, finest first, and their channels, by a configuration.
        library: names of the configuration and the network in `transformers`.
        sizes: the settings of a configuration that differ between networks.
    """

    name: str
    title: str
    example: str
    licence: str
    image_size: int
    strides: Callable[[Any], Mapping[int, int]]
    library: tuple[str, str]
    sizes: tuple[str, ...]


def assemble(family: Family, weights: str | Path, choice: Choice) -> dict[str, Any]:
    """The arguments of a `Teacher` of this family; errors as in `teachers.load`."""
    import transformers

    require_unset(choice, "model", "levels", teacher=family.name)
    files = locate(weights, example=family.example)
    raw = require_kind(files, (family.name,), teacher=family.name, example=family.example)
    configuration, network = (getattr(transformers, name) for name in family.library)
    config = configuration.from_dict({**raw, "is_training": False})
    size = choice.image_size or family.image_size
    chosen = choose_classes(config.id2label, choice.classes, title=family.title)
    spec = choose_maps(family.strides(config), choice.strides, size, masks=bool(chosen), title=family.title)
    backbone = {key: getattr(config.backbone_config, key, None) for key in _BACKBONE}
    title = f"{family.title} as its config.json describes it"
    return {
        "name": family.name,
        "network": load_network(network, config, files.model, read_shapes(files.model), unread=_UNREAD, title=title),
        "spec": spec,
        "preprocessing": SquareResize(size, IMAGENET_MEAN, IMAGENET_STD),
        "facts": {
            "model": {key: getattr(config, key) for key in family.sizes} | {"backbone": backbone},
            **({"classes": chosen} if chosen else {}),
            "weights": sha256(files.model),
        },
        "licence": family.licence,
    }


def choose_classes(labels: Mapping[int, str], asked: Sequence[str] | None, *, title: str) -> list[int]:
    """The numbers of the chosen classes, given by name or by number.

    Raises:
        ValueError: there is no such class, or nothing is left outside them.
    """
    numbers = {str(label).lower(): number for number, label in labels.items()}
    chosen: set[int] = set()
    for name in map(str, asked or ()):
        number = int(name) if name.isdecimal() else numbers.get(name.lower())
        if number is None or number not in labels:
            near = get_close_matches(name.lower(), numbers, n=1)
            few = ", ".join(list(labels.values())[:_SHOWN])
            remedy = f"did you mean '{labels[numbers[near[0]]]}'?" if near else f"its {len(labels)} begin with {few}"
            raise ValueError(f"these {title} weights know no class '{name}'; {remedy}")
        chosen.add(number)
    if len(chosen) == len(labels):
        raise ValueError(
            f"classes names all {len(labels)} classes of these {title} weights, so that the mask would be the whole "
            "image; leave one out"
        )
    return sorted(chosen)


def choose_maps(
    strides: Mapping[int, int], asked: Sequence[int] | None, size: int, *, masks: bool, title: str
) -> FeatureSpec:
    """The states of the chosen strides, the finest by default; and the soft mask on the finest grid.

    Args:
        strides: of the states, finest first, and their channels.
        asked: the chosen strides.
        size: side of the square image.
        masks: whether there is a soft mask.
        title: the model's name in messages.

    Raises:
        ValueError: there is no state of a stride, or cells do not cover the image.
    """
    unknown = [stride for stride in asked or () if stride not in strides]
    if unknown:
        raise ValueError(
            f"{title}'s pixel decoder has no state of stride {unknown[0]}; choose from {', '.join(map(str, strides))}"
        )
    require_multiple(size, max(strides), cells=f"{title}'s cells")
    finest = min(strides)
    maps = [
        MapSpec(name_of(stride, finest), strides[stride], (size // stride, size // stride), stride)
        for stride in sorted(set(asked or (finest,)))
    ]
    if masks:
        maps.append(MapSpec(MASK, 1, (size // finest, size // finest), finest))
    return FeatureSpec(tuple(maps))


def name_of(stride: int, finest: int) -> str:
    """`pixel` for the mask features, the finest state; `pixel8`, `pixel16`, `pixel32` for those before them."""
    return "pixel" if stride == finest else f"pixel{stride}"


def named_states(fine: Tensor, coarse: Sequence[Tensor], strides: Mapping[int, int]) -> dict[str, Tensor]:
    """The pixel decoder's states under their names: the finest, and the others from coarse to fine."""
    states = [fine, *reversed(coarse)]
    return {name_of(stride, min(strides)): value for stride, value in zip(strides, states, strict=True)}


def class_scores(classes: Tensor, masks: Tensor) -> Tensor:
    """The score of every class at every pixel (N, K, h, w), as the models' own post-processing takes it.

    Args:
        classes: logits of each query's class, (N, Q, K + 1); the last is none of them.
        masks: logits of each query's mask, (N, Q, h, w).
    """
    return torch.einsum("nqk,nqhw->nkhw", classes.float().softmax(-1)[..., :-1], masks.float().sigmoid())


def soft_mask(classes: Tensor, masks: Tensor, chosen: Sequence[int], *, grid: tuple[int, int]) -> Tensor:
    """The logit (N, 1, *grid) of the share that the chosen classes have in all scores; arguments as `class_scores`."""
    if tuple(masks.shape[-2:]) != grid:
        masks = F.interpolate(masks.float(), size=grid, mode="bilinear", align_corners=False)
    scores = class_scores(classes, masks)
    inside = scores[:, list(chosen)].sum(1, keepdim=True)
    outside = scores.sum(1, keepdim=True) - inside
    return (inside.clamp(min=_SMALLEST).log() - outside.clamp(min=_SMALLEST).log()).clamp(-LOGIT_CLIP, LOGIT_CLIP)
