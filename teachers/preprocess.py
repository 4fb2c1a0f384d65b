"""The step from an image to the pixels that a teacher expects, and the share of them that the image covers.

All classes are small and picklable, so data loading workers can prepare images without holding a teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

# Mean and standard deviation of ImageNet's pixels, from 0 to 255; SAM, SAM 2 and DINOv2 all expect them.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
INTERPOLATIONS = ("bilinear", "bicubic")  # of `SquareResize`


@dataclass(frozen=True)
class Prepared:
    """One image as the input of a teacher.

    Attributes:
        pixels: float32 tensor (3, S, S), normalised.
        valid: fractions (rows, columns) of S that the image covers, from the top left; in (0, 1].
    """

    pixels: Tensor
    valid: tuple[float, float]


@dataclass(frozen=True)
class Letterbox:
    """SAM's preprocessing: longest side to `size`, normalised, zeros below and to the right.

    It equals, bit for bit, `segment_anything`'s `ResizeLongestSide.apply_image` followed by `Sam.preprocess`: Pillow's
    antialiased bilinear filter on uint8. The torchvision backend of `transformers` rounds differently when it resizes,
    by up to 1 grey level in a small share of the pixels; here the original is followed.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def description(self) -> str:
        """One line that changes whenever the pixels would."""
        return (
            f"letterbox 1: longest side to {self.size} (Pillow, bilinear), (rgb - {self.mean}) / {self.std}, "
            "zeros below and right"
        )

    def __call__(self, image: np.ndarray) -> Prepared:
        """Prepares a uint8 image (H, W, 3), RGB, of any size; pixels are (3, size, size)."""
        height, width = require_image(image).shape[:2]
        scale = self.size * 1.0 / max(height, width)
        rows, columns = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        resized = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
        pixels = np.zeros((3, self.size, self.size), np.float32)
        pixels[:, :rows, :columns] = normalise(resized.transpose(2, 0, 1), self.mean, self.std)
        return Prepared(torch.from_numpy(pixels), (rows / self.size, columns / self.size))


@dataclass(frozen=True)
class SquareResize:
    """The whole image resized to a square, whatever its aspect ratio, so that the image covers all of it.

    By torch's antialiased filter on uint8, which is five times as fast as Pillow's and within one grey level of it.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = INTERPOLATIONS[0]

    @property
    def description(self) -> str:
        """One line that changes whenever the pixels would."""
        return (
            f"stretch 1: to {self.size} x {self.size} (torch, {self.interpolation}, antialiased), "
            f"(rgb - {self.mean}) / {self.std}"
        )

    def __call__(self, image: np.ndarray) -> Prepared:
        """Prepares a uint8 image (H, W, 3), RGB, of any size; pixels are (3, size, size)."""
        tensor = torch.from_numpy(np.array(require_image(image), order="C")).permute(2, 0, 1)[None]
        resized = F.interpolate(tensor, (self.size, self.size), mode=self.interpolation, antialias=True)
        return Prepared(torch.from_numpy(normalise(resized[0].numpy(), self.mean, self.std)), (1.0, 1.0))


@dataclass(frozen=True)
class MinMaxResize:
    """MedSAM's preprocessing: the whole image resized to a square, scaled to [0, 1] by its own minimum and maximum.

    This follows `MedSAM_Inference.py` of bowang-lab/MedSAM, except that it resizes with torch's antialiased bicubic
    filter on uint8 instead of scikit-image's cubic spline after a Gaussian filter. Without resizing both are equal.
    """

    size: int

    @property
    def description(self) -> str:
        """One line that changes whenever the pixels would."""
        return (
            f"stretch 2: to {self.size} x {self.size} (torch, bicubic, antialiased), (rgb - min) / (max - min) of "
            "each image"
        )

    def __call__(self, image: np.ndarray) -> Prepared:
        """Prepares a uint8 image (H, W, 3), RGB, of any size; pixels are (3, size, size)."""
        values = SquareResize(self.size, (0, 0, 0), (1, 1, 1), "bicubic")(image).pixels
        low, high = float(values.min()), float(values.max())
        return Prepared((values - low) / max(high - low, 1e-8), (1.0, 1.0))


def statistics_of(values: Sequence[float], name: str) -> tuple[float, float, float]:
    """The mean or standard deviation that a recipe or a configuration states, rescaled to 0 to 255.

    Args:
        values: for red, green and blue, of pixels in [0, 1].
        name: `mean` or `std`.

    Raises:
        ValueError: if these are not three such numbers.
    """
    if len(values) != 3 or not all(0 <= value <= 1 for value in values) or (name == "std" and min(values) == 0):
        raise ValueError(
            f"expected {name} as three numbers for pixels in [0, 1] (red, green, blue), got {list(values)}"
        )
    red, green, blue = (round(value * 255, 6) for value in values)
    return red, green, blue


def normalise(image: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """(image - mean) / std of a uint8 array (3, H, W); mean and std are for pixels from 0 to 255. Returns float32."""
    # In numpy, because torch would spread these few microseconds over threads that a busy machine does not have.
    values = np.ascontiguousarray(image).astype(np.float32)
    values -= np.array(mean, np.float32)[:, None, None]
    values /= np.array(std, np.float32)[:, None, None]
    return values


def require_image(image: np.ndarray) -> np.ndarray:
    """Returns the image unchanged if it is one.

    Raises:
        ValueError: if it is not a non-empty uint8 array of shape (H, W, 3).
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"expected an RGB image, a uint8 array of shape (height, width, 3), got {image.dtype} {image.shape}; "
            "convert it first"
        )
    return image
