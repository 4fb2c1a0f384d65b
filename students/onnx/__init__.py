"""The students in fewer and larger operators, for export to ONNX; for inference only."""

from students.onnx.fuse import fuse_for_inference

__all__ = ["fuse_for_inference"]
