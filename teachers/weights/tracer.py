"""The release of TRACER TE-0 (Lee et al. 2022; `TRACER-Efficient-0.pth`): its EfficientNet-B0 under timm's names.

The file holds a whole network for salient objects under `module.` (it was trained with DataParallel). Its backbone,
`module.model.`, has the names of efficientnet-pytorch. The weights are AdvProp ImageNet's, trained further on DUTS.
"""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path

MODEL = "tf_efficientnet_b0"  # in timm, with `features_only=True`
_PREFIX = "module.model."
# Beginnings of names that are not the backbone's: the decoder, its edges, and the head, which stride 32 does without.
REST = (
    *("module.rfb2.", "module.rfb3.", "module.rfb4.", "module.agg."),
    *("module.ObjectAttention1.", "module.ObjectAttention2.", "module.model.Frequency_Edge_Module1."),
    *("module.model._conv_head.", "module.model._bn1.", "module.model._fc."),
)
_FIRST_BLOCK = list(accumulate((1, 2, 2, 3, 3, 4), initial=0))  # of each stage, of 16 in all
_STEM = {"conv_stem": "_conv_stem", "bn1": "_bn0"}
_SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
_DEPTHWISE = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2", **_SQUEEZE}
_INVERTED = {
    **{"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"},
    **{"conv_pwl": "_project_conv", "bn3": "_bn2", **_SQUEEZE},
}


def original_name(name: str) -> str:
    """The name in the release of a tensor of timm's `tf_efficientnet_b0`."""
    module, _, kind = name.rpartition(".")
    match = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)", module)
    if not match:
        return f"{_PREFIX}{_STEM[module]}.{kind}"
    stage, block = int(match[1]), int(match[2])
    names = _INVERTED if stage else _DEPTHWISE
    return f"{_PREFIX}_blocks.{_FIRST_BLOCK[stage] + block}.{names[match[3]]}.{kind}"


def convert(checkpoint: Path, target: Path) -> None:
    """Writes the backbone of a release as a safetensors file that timm loads strictly.

    Args:
        checkpoint: the release, `.pth`.
        target: the file to write, whole or not at all.

    Raises:
        ValueError: it is no state dict, lacks tensors of the backbone, or holds unknown ones.
    """
    import timm
    import torch

    from teachers.weights.tensors import read_shapes, read_state, shapes_of, write_tensors

    with torch.device("meta"):
        network = timm.create_model(MODEL, features_only=True)
    how = {"network": "TRACER TE-0", "name_of": original_name, "rest": REST}
    write_tensors(target, read_state(checkpoint, read_shapes(checkpoint), shapes_of(network), **how))
