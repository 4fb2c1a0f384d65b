"""Weights: where they are, what is in them, and the names that other projects give their tensors."""

from teachers.weights.locate import CONFIG, MODEL, WeightFiles, locate, read_config, require_config, require_kind
from teachers.weights.tensors import put_tensors, read_shapes, read_tensors, require_shapes, sha256

__all__ = [
    "CONFIG",
    "MODEL",
    "WeightFiles",
    "locate",
    "put_tensors",
    "read_config",
    "read_shapes",
    "read_tensors",
    "require_config",
    "require_kind",
    "require_shapes",
    "sha256",
]
