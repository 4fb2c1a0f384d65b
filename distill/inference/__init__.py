"""A published student in use: on images, on videos, and from Python.

drawing: an image with its true and predicted contour, as a picture
images: prediction of images, with a mask, an overlay and a row of figures each
inputs: the files that a user means, and the names of their results
model: the network between its two resizes, and loading a published one
onnx_file: writing the ONNX file, and running one without torch
output_dir: the folder of results: its settings, finished results and tables
overlay: masks as pictures, and drawn onto their image
predict: masks, overlays and figures of images and videos
regions: area, box, connected parts and expected Dice of a mask
segmenter: a student in use, from a folder or an ONNX file
thresholds: from a probability to a mask, by hysteresis thresholding
video: prediction of a video
video_files: reading and writing videos
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.inference.model import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in __all__:
        raise AttributeError(f"module 'distill.inference' has no attribute {name!r}")
    from distill.inference import model  # on use, because the command line imports files of this folder without torch

    return getattr(model, name)
