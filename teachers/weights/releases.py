"""Conversion of files from release pages to safetensors files that the adapter `timm` loads strictly.

Networks trained on endoscopic images (EndoViT, SurgeNet, GastroNet-5M) are pickles that use the names of the code that
trained them: timm itself (EndoViT, which also holds the decoder of its autoencoder), the official CaFormer, ConvNeXt V2
and PVT v2 (SurgeNet), torchvision's ResNet and DINO's ViT (GastroNet-5M). Some names have prefixes from training. timm
knows the official names and translates them.

TRACER TE-0 (Lee et al. 2022; `TRACER-Efficient-0.pth`) is a whole network for salient objects. The weights of its
EfficientNet-B0 are AdvProp ImageNet's, trained further on DUTS.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from teachers.weights.checkpoint import read_checkpoint
from teachers.weights.names import in_pyramids, renamed, rest_of
from teachers.weights.tensors import read_state, require_shapes, shapes_of, write_tensors

_TRACER = "tf_efficientnet_b0"  # in timm, with `features_only=True`
_PREFIXES = ("module.", "teacher.", "student_backbone.", "backbone.")
# Prefixes of the names of heads and of a masked autoencoder's decoder, in the file or in timm.
_REST = ("head.", "fc.", "decoder_", "mask_token")


def convert_tracer(checkpoint: Path, target: Path) -> None:
    """Writes the backbone of TRACER's release; arguments and errors as in `convert`."""
    import timm

    with torch.device("meta"):
        expected = shapes_of(timm.create_model(_TRACER, features_only=True))
    state = read_state(
        checkpoint,
        expected,
        network="TRACER TE-0",
        name_of=lambda name: renamed(name, "tracer"),
        rest=rest_of("tracer"),
    )
    write_tensors(target, state)


def convert(checkpoint: Path, target: Path, *, model: str, title: str) -> None:
    """Writes an endoscopic network: a whole vision transformer without its head, for other networks the pyramid.

    `model` is its name in timm, `title` its name in messages. The target is written whole or not at all.

    Raises:
        ValueError: if the checkpoint is not a state dict, lacks tensors, or holds unknown ones.
    """
    import timm

    with torch.device("meta"):
        network = timm.create_model(model)
        wanted = timm.create_model(model, **({"num_classes": 0} if "vit_" in model else {"features_only": True}))
    whole, found = shapes_of(network), timm_tensors(read_checkpoint(checkpoint), network)
    # In some versions DINO's students keep no count of batches; timm does not read it.
    found |= {name: torch.tensor(0) for name in whole if name.endswith("num_batches_tracked") and name not in found}
    require_shapes(
        {name: tuple(value.shape) for name, value in found.items() if not name.startswith(_REST)},
        {name: shape for name, shape in whole.items() if not name.startswith(_REST)},
        path=checkpoint,
        network=title,
    )
    found = in_pyramids(found)
    write_tensors(target, {name: found[name] for name in wanted.state_dict()})


def timm_tensors(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names of timm's whole network."""
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    state = {name: value for name, value in state.items() if not name.startswith(_REST)}
    translate = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    try:
        return dict(translate(state, network)) if translate else state
    except KeyError:  # a name that timm does not know either; the comparison gives the better message
        return state
