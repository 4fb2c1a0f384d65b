"""Weights of teachers: files, tensors, and the names of tensors in the files of other projects."""

from teachers.weights.locate import CONFIG, MODEL, locate
from teachers.weights.tensors import read_shapes, read_tensors, sha256

__all__ = ["CONFIG", "MODEL", "locate", "read_shapes", "read_tensors", "sha256"]
