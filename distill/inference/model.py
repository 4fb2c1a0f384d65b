"""The network in use: takes an image of any size, returns a probability of that size, and does every resize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import students
from distill.inference.thresholds import Thresholds
from students import MEAN, STD, Student

TINY = 1e-30  # smaller probabilities count as this in a logarithm


class InferenceModel(nn.Module):
    """A student between the two resizes that training implies; this is evaluated, exported and served.

    The image is resized with the antialiased filter of `distill.runtime.resize` to `image_size`, normalised and
    segmented; the probability, not the logits, is resized back with the same filter, so that a pixel of a small
    image gets the mean over its area, and rounding errors stay small whatever the range of the logits.

    The temperature, which divides the logits to calibrate the probability, acts after the resize: there it keeps the
    order of values.

    Its `thresholds` make a mask of a probability: `model.thresholds.mask(model.predict(image))`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        student: Student,
        *,
        image_size: int,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
        temperature: float = 1.0,
        thresholds: Thresholds | None = None,
    ) -> None:
        super().__init__()
        self.student, self.image_size, self.classes = student, image_size, student.classes
        self.temperature, self.thresholds = temperature, thresholds or Thresholds()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Probability float32 (N, K, H, W) in [0, 1] of RGB images uint8 (N, H, W, 3), of any H and W.

        K = 1: of the foreground (sigmoid); K > 1: of each class, summing to 1 (softmax).
        """
        x = self.normalised(image)
        logits = self.student(x)
        if logits.shape[1:] != (self.classes, *x.shape[2:]):
            raise ValueError(
                f"expected logits of shape {(self.classes, *x.shape[2:])} of {type(self.student).__name__}, got "
                f"{tuple(logits.shape[1:])}; logits have the size of the input"
            )
        size = (image.shape[1], image.shape[2])
        if self.temperature == 1:
            return _resize(logits.sigmoid() if self.classes == 1 else logits.softmax(dim=1), size)
        if self.classes > 1:
            return (_resize(logits.softmax(dim=1), size).clamp(min=TINY).log() / self.temperature).softmax(dim=1)
        # 1 - p is resized beside p: so it has its digits where p nears 1. By a softmax: the sigmoid of ONNX Runtime has
        # few digits far from 0. From the resize on there are few operators: they act on every pixel of the frame.
        both = torch.cat([torch.zeros_like(logits), logits], dim=1).softmax(dim=1)
        rest, found = (_resize(part, size).clamp(min=TINY) for part in both.split(1, dim=1))
        return ((found / rest).log() / self.temperature).sigmoid()

    def normalised(self, image: Tensor) -> Tensor:
        """The student's input float32 (N, 3, image_size, image_size) of RGB images uint8 (N, H, W, 3)."""
        x = image.permute(0, 3, 1, 2).to(self.mean.dtype)
        # Not channels last as in the image: torch's group norm loses three digits there.
        return self.standardised(_resize(x, (self.image_size, self.image_size)).contiguous())

    def standardised(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) from 0 to 255 in the range that the student was trained on."""
        return (pixels / 255 - self.mean) / self.std

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Probability float32 (K, H, W) of one RGB image uint8 (H, W, 3), computed on the model's device.

        Raises:
            ValueError: not an array, or one of another type or shape, such as floats in [0, 1].
        """
        if not isinstance(image, np.ndarray):
            raise ValueError(f"expected an RGB image as an array of uint8, got {type(image).__name__}")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"expected an RGB image of uint8 and shape (H, W, 3), got {image.dtype} {image.shape}")
        with torch.inference_mode():
            pixels = torch.from_numpy(np.array(image, order="C"))[None].to(self.mean.device)
            return self(pixels)[0].cpu().numpy()


class SquareModel(nn.Module):
    """An `InferenceModel` without its two resizes, for runtimes that cannot do them or do them otherwise.

    Both give an image of the network's own size the same probability.
    """

    def __init__(self, model: InferenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Calibrated probability float32 (N, K, S, S) of RGB images float32 (N, 3, S, S) in [0, 255].

        S is the model's `image_size`.
        """
        logits = self.model.student(self.model.standardised(image)) / self.model.temperature
        return logits.sigmoid() if self.model.classes == 1 else logits.softmax(dim=1)


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N, C, H, W) as (N, C, *size), by the filter of `distill.runtime.resize`, as an operator that ONNX has.

    A test keeps the two equal.
    """
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


def load_model(source: str | Path, *, trust: str | None = None) -> InferenceModel:
    """A published student from a folder, a hub id or `zoo:NAME`, ready to `predict`; in eval mode, on the CPU.

    Args:
        source: one of these.
        trust: the user's own student class, as for `students.load`.

    Raises:
        FileNotFoundError: a folder without `config.json`.
        ValueError: as `students.load`, or config.json lacks size, mean or std of images.
    """
    config = students.read_config(source, needs=("image_size", "mean", "std"))
    student = students.load(source, trust=trust)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    temperature = config.get("temperature", 1.0)  # older students have none
    return InferenceModel(
        student,
        image_size=config["image_size"],
        mean=mean,
        std=std,
        temperature=temperature,
        thresholds=Thresholds.of(config),
    ).eval()
