"""Networks trained on endoscopic images, under timm's names: EndoViT, SurgeNet, GastroNet-5M.

Their checkpoints are pickles with the names of the code that trained them: of timm itself (EndoViT, beside the decoder
of its autoencoder), of the official CaFormer, ConvNeXt V2 and PVT v2 (SurgeNet), of torchvision's ResNet and DINO's ViT
(GastroNet-5M), some behind the prefixes of their training. timm knows the official names and translates them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor

_PREFIXES = ("module.", "teacher.", "student_backbone.", "backbone.")
# Beginnings of names of heads and of a masked autoencoder's decoder, in the file or in timm.
_REST = ("head.", "fc.", "decoder_", "mask_token")


def timm_tensors(state: dict[str, Tensor], model: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names of timm's whole network.

    Args:
        state: by the names of the checkpoint.
        model: the network's name in timm.
    """
    import timm
    import torch

    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    state = {name: value for name, value in state.items() if not name.startswith(_REST)}
    with torch.device("meta"):
        network = timm.create_model(model)
    translate = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    try:
        return dict(translate(state, network)) if translate else state
    except KeyError:  # a name that timm does not know either, which the comparison tells better
        return state


def convert(checkpoint: Path, target: Path, *, model: str, network: str) -> None:
    """Writes an endoscopic network as a safetensors file that the adapter `timm` loads strictly.

    Of a vision transformer it is the whole network without its head, else the pyramid.

    Args:
        checkpoint: the published file.
        target: the file to write, whole or not at all.
        model: the network's name in timm.
        network: its name in messages.

    Raises:
        ValueError: it is no state dict, lacks tensors, or holds unknown ones.
    """
    import timm
    import torch

    from teachers.weights.checkpoint import read_checkpoint
    from teachers.weights.tensors import require_shapes, shapes_of, write_tensors

    found = timm_tensors(read_checkpoint(checkpoint), model)
    with torch.device("meta"):
        whole = shapes_of(timm.create_model(model))
        wanted = timm.create_model(model, **({"num_classes": 0} if "vit_" in model else {"features_only": True}))
    # DINO's students keep no count of batches in some versions; timm reads none.
    found |= {name: torch.tensor(0) for name in whole if name.endswith("num_batches_tracked") and name not in found}
    require_shapes(
        {name: tuple(value.shape) for name, value in found.items() if not name.startswith(_REST)},
        {name: shape for name, shape in whole.items() if not name.startswith(_REST)},
        path=checkpoint,
        network=network,
    )
    places = {alias: name for name in found for alias in (name.replace(".", "_", 1), name)}  # of timm's pyramids
    write_tensors(target, {name: found[places[name]] for name in wanted.state_dict()})
