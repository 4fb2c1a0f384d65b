"""Mask2Former (Cheng et al. 2022) and OneFormer (Jain et al. 2023): states of the pixel decoder, and a soft mask.

They are loaded from `transformers` folders and hub ids. The whole image is stretched to a square. Its default side is
384 pixels for Mask2Former, as in the processor of the published weights, and 800 for OneFormer, whose processor
brings the shorter side to 800 and keeps the aspect ratio.

Both segment by queries, each with a mask and a distribution over the classes and "no class". Their post-processing
scores class c at a pixel by the sum over queries of its probability times the mask's, and takes the class of the
largest score. The soft mask of chosen classes is their share of all scores, as a logit: it is positive where together
they outweigh the others. Without chosen classes the transformer decoder does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cache.spec import LOGIT_CLIP, MASK, FeatureSpec, MapSpec
from teachers.base import Teacher
from teachers.choice import Choice, require_multiple, require_strides, require_unset
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, SquareResize
from teachers.weights.known import SETTINGS
from teachers.weights.locate import locate, require_kind
from teachers.weights.tensors import sha256
from teachers.weights.transformers import load_network

# "the task is semantic" in CLIP's byte pairs, with start and end tokens; OneFormer's processor pads it with zeros.
# So no tokeniser is needed. Of OneFormer's tasks this is the one whose post-processing gives every pixel a class.
TASK = (49406, 518, 10549, 533, 29119, 1550, 49407)
_SMALLEST = 1e-6  # lower limit of scores
_SHOWN = 5  # number of classes that a message names
_BACKBONE = ("model_type", "embed_dim", "depths", "num_heads", "window_size")
# Tensors that only training or older versions read; a file need not hold them.
_UNREAD = ("criterion.", "text_mapper.", "relative_position_index")


class Family(NamedTuple):
    """The differences between the two models.

    Attributes:
        title: the name in messages, and the prefix of class names in `transformers`.
        example: a hub id.
        licence: licence of the published weights.
        image_size: side of the square that its processor aims at, in pixels.
        strides: from a configuration: strides of the pixel decoder's states, finest first, and their channels.
        decoded: from the pixel decoder's output: the states, finest first.
        said: from the network's output: the states, finest first.
        inputs: from a configuration: further inputs of the network, for one image.
    """

    title: str
    example: str
    licence: str
    image_size: int
    strides: Callable[[Any], dict[int, int]]
    decoded: Callable[[Any], Sequence[Tensor]]
    said: Callable[[Any], Sequence[Tensor]]
    inputs: Callable[[Any], Mapping[str, Tensor]]


def task_tokens(length: int) -> Tensor:
    """The tokens of the task "semantic" as OneFormer's processor makes them: int64 (1, length)."""
    return F.pad(torch.tensor([TASK]), (0, length - len(TASK)))


MASK2FORMER = Family(
    title="Mask2Former",
    example="facebook/mask2former-swin-small-coco-panoptic",
    licence="see the card of the weights",
    image_size=384,
    strides=lambda of: {
        of.common_stride: of.mask_feature_size,
        **dict.fromkeys(of.feature_strides[-3:], of.feature_size),
    },
    decoded=lambda out: [out.decoder_last_hidden_state, *reversed(out.decoder_hidden_states)],
    said=lambda out: [out.pixel_decoder_last_hidden_state, *reversed(out.pixel_decoder_hidden_states)],
    inputs=lambda of: {},
)
ONEFORMER = Family(
    title="OneFormer",
    example="shi-labs/oneformer_coco_swin_large",
    licence="MIT",
    image_size=800,
    strides=lambda of: {of.common_stride: of.mask_dim, **dict.fromkeys(of.strides[-3:], of.conv_dim)},
    decoded=lambda out: [out.decoder_last_feature, *reversed(out.decoder_features)],
    said=lambda out: [out.pixel_decoder_hidden_states[0], *reversed(out.pixel_decoder_hidden_states[1:])],
    inputs=lambda of: {"task_inputs": task_tokens(of.task_seq_len)},
)


class Mask2FormerTeacher(Teacher):
    """Maps `pixel` (the mask features, 256 channels at stride 4), `pixel8`, `pixel16`, `pixel32`; and `mask`.

    By default `pixel` alone; `strides` choose others, and `classes` add the mask.
    """

    example = MASK2FORMER.example

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> Mask2FormerTeacher:
        """Loads a folder of `Mask2FormerForUniversalSegmentation`; arguments and errors as in `teachers.load`."""
        return cls(**assemble(MASK2FORMER, weights, choice))


class OneFormerTeacher(Teacher):
    """The same maps as those of `Mask2FormerTeacher`."""

    example = ONEFORMER.example

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> OneFormerTeacher:
        """Loads a folder of `OneFormerForUniversalSegmentation`; arguments and errors as in `teachers.load`."""
        return cls(**assemble(ONEFORMER, weights, choice))


class Segmenter(nn.Module):
    """A network of a family that returns the maps of a spec; if it has a mask, that of the classes of these numbers."""

    def __init__(self, network: Any, family: Family, spec: FeatureSpec, classes: Sequence[int]) -> None:  # noqa: ANN401
        super().__init__()
        self.network, self.family, self.spec, self.classes = network, family, spec, classes

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The maps of pixels (N, 3, S, S)."""
        family, config = self.family, self.network.config
        mask: list[Tensor] = []
        if self.classes:
            given = family.inputs(config).items()
            inputs = {name: value.to(pixels.device).expand(len(pixels), -1) for name, value in given}
            out = self.network(pixels, **inputs, output_hidden_states=True)
            grid = self.spec[MASK].grid
            mask = [soft_mask(out.class_queries_logits, out.masks_queries_logits, self.classes, grid=grid)]
            states = family.said(out)
        else:
            states = family.decoded(self.network.model.pixel_level_module(pixels))
        by_stride = dict(zip(family.strides(config), states, strict=True))
        return [by_stride[entry.stride] for entry in self.spec if entry.name != MASK] + mask


def assemble(family: Family, weights: str | Path, choice: Choice) -> dict[str, Any]:
    """The constructor arguments of a `Teacher` of this family; errors as in `teachers.load`."""
    import transformers

    name = family.title.lower()  # in the registry, and as `model_type` in config.json
    require_unset(choice, "model", "levels", teacher=name)
    files = locate(weights, teacher=name, example=family.example)
    raw = require_kind(files, (name,))
    config = getattr(transformers, f"{family.title}Config").from_dict({**raw, "is_training": False})
    network = getattr(transformers, f"{family.title}ForUniversalSegmentation")
    size = choice.image_size or family.image_size
    chosen = choose_classes(config.id2label, choice.classes, title=family.title)
    spec = choose_maps(family.strides(config), choice.strides, size, masks=bool(chosen), title=family.title)
    backbone = {key: getattr(config.backbone_config, key, None) for key in _BACKBONE}
    title = f"{family.title} as its config.json describes it"
    whole = load_network(network, config, files.model, unread=_UNREAD, title=title)
    return {
        "name": name,
        "network": Segmenter(whole, family, spec, chosen),
        "spec": spec,
        "preprocessing": SquareResize(size, IMAGENET_MEAN, IMAGENET_STD),
        "facts": {
            "model": {key: getattr(config, key) for key in SETTINGS[name]} | {"backbone": backbone},
            **({"classes": chosen} if chosen else {}),
            "weights": sha256(files.model),
        },
        "licence": family.licence,
    }


def choose_classes(labels: Mapping[int, str], asked: Sequence[str] | None, *, title: str) -> list[int]:
    """The numbers of the chosen classes, given by name or by number.

    Raises:
        ValueError: if there is no such class, or if all classes are chosen.
    """
    numbers = {str(label).lower(): number for number, label in labels.items()}
    chosen: set[int] = set()
    for name in map(str, asked or ()):
        number = int(name) if name.isdecimal() else numbers.get(name.lower())
        if number is None or number not in labels:
            near = get_close_matches(name.lower(), numbers, n=1)
            few = ", ".join(list(labels.values())[:_SHOWN])
            remedy = f"did you mean '{labels[numbers[near[0]]]}'?" if near else f"its {len(labels)} begin with {few}"
            raise ValueError(f"these {title} weights have no class '{name}'; {remedy}")
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
    """The states at the given strides, by default the finest; with `masks` also the soft mask on the finest grid.

    Raises:
        ValueError: if there is no state of a stride, or cells do not cover the image of `size` pixels.
    """
    require_strides(asked or (), list(strides), network=f"{title}'s pixel decoder", kind="state")
    require_multiple(size, max(strides), cells=f"{title}'s cells")
    finest = min(strides)
    maps = [
        MapSpec("pixel" if stride == finest else f"pixel{stride}", strides[stride], (size // stride,) * 2, stride)
        for stride in sorted(set(asked or (finest,)))
    ]
    if masks:
        maps.append(MapSpec(MASK, 1, (size // finest,) * 2, finest))
    return FeatureSpec(tuple(maps))


def class_scores(classes: Tensor, masks: Tensor) -> Tensor:
    """The score of every class at every pixel (N, K, h, w), as in the models' own post-processing.

    Args:
        classes: logits of each query's class, (N, Q, K + 1); the last one means no class.
        masks: logits of each query's mask, (N, Q, h, w).
    """
    return torch.einsum("nqk,nqhw->nkhw", classes.float().softmax(-1)[..., :-1], masks.float().sigmoid())


def soft_mask(classes: Tensor, masks: Tensor, chosen: Sequence[int], *, grid: tuple[int, int]) -> Tensor:
    """The logit (N, 1, *grid) of the chosen classes' share of all scores; arguments as in `class_scores`."""
    if tuple(masks.shape[-2:]) != grid:
        masks = F.interpolate(masks.float(), size=grid, mode="bilinear", align_corners=False)
    scores = class_scores(classes, masks)
    inside = scores[:, list(chosen)].sum(1, keepdim=True)
    outside = scores.sum(1, keepdim=True) - inside
    return (inside.clamp(min=_SMALLEST).log() - outside.clamp(min=_SMALLEST).log()).clamp(-LOGIT_CLIP, LOGIT_CLIP)
