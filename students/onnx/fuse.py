"""Fusing a student into a network of fewer and larger operators that computes the same logits, up to rounding."""

from __future__ import annotations

import copy
from pkgutil import resolve_name

from torch import nn

from students.base import Student

FUSED = {  # class of a module -> class or function that makes the fused module from it
    "students.attention_unet:Norm": "students.onnx.operators:Normed",
    "students.attention_unet:Doubling": "students.onnx.operators:Doubling",
    "students.attention_unet:Encoder": "students.onnx.attention_unet:Encoder",
    "students.microaunet:GatedAttention": "students.onnx.microaunet:GatedAttention",
    "students.microaunet:LSCAB": "students.onnx.operators:blocked_bridge",
    "students.microaunet:MicroAUNet": "students.onnx.attention_unet:Network",
    "students.malunet:Gate": "students.onnx.malunet:Gate",
    "students.malunet:DilatedAttention": "students.onnx.malunet:DilatedAttention",
    "students.malunet:ExternalAttention": "students.onnx.malunet:ExternalAttention",
    "students.malunet:SCAB": "students.onnx.operators:blocked_bridge",
    "students.malunet:MALUNet": "students.onnx.attention_unet:Network",
    "students.scrnet:Calibration": "students.onnx.scrnet:Calibration",
}


def fuse_for_inference(student: Student) -> nn.Module:
    """A copy that computes the student's logits (N, classes, H, W) in fewer operators, in eval mode.

    Modules that are not in `FUSED`, such as those of a user's own class, are kept as they are. Image sizes are not
    checked: for a size that the student refuses, the result has no meaning.
    """
    return _fused(copy.deepcopy(student).eval())


def _fused(module: nn.Module) -> nn.Module:
    """The module made from `module`, with its children fused afterwards: makers only see unfused modules."""
    maker = FUSED.get(f"{type(module).__module__}:{type(module).__qualname__}")
    made: nn.Module = resolve_name(maker)(module).eval() if maker else module
    for name, child in made.named_children():
        setattr(made, name, _fused(child))
    return made
