"""Augmentation of a training image, drawn from (seed, epoch, sample) alone.

A flip chooses a view in the cache; a crop is a box of that view, which the frequency code evaluates exactly; colour
changes only the student's input. The targets therefore need no augmentation of their own.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cache.series import WHOLE, Box
from distill.config.schema import AugmentRecipe

LARGEST_ASPECT = 1.25  # of a crop's sides, relative to the image's own
HUE_SHARE = 0.1  # of the colour strength: hue carries more than brightness
FULL_IMAGE_CHANCE = 0.2  # so that training also sees whole images, as at test time
EMPTY_STREAM = 4  # of random numbers, for regions without an object
EMPTY_SIDES = (0.4, 0.8)  # of such a region, relative to the image's
EMPTY_TRIES = 20


@dataclass(frozen=True)
class Draw:
    """The random choices for one image: `view`, `box` (y0, x0, y1, x1) of that view, and factors of colour."""

    view: str
    box: Box
    brightness: float
    contrast: float
    saturation: float
    hue: float


def generator_for(seed: int, epoch: int, sample: str, *, stream: int = 0) -> np.random.Generator:
    """A sample's random stream, independent of workers, ranks, restarts and other samples."""
    return np.random.default_rng([seed, epoch, zlib.crc32(sample.encode()), *([stream] if stream else [])])


def draw(augment: AugmentRecipe, random: np.random.Generator) -> Draw:
    """Draws a view, a box and colour factors."""
    view = augment.views[int(random.integers(len(augment.views)))]
    box = draw_box(augment.min_crop, random)
    brightness, contrast, saturation = 1 + augment.colour * random.uniform(-1, 1, size=3)
    hue = augment.colour * HUE_SHARE * random.uniform(-1, 1)
    return Draw(view, box, float(brightness), float(contrast), float(saturation), float(hue))


def draw_box(scale: float, random: np.random.Generator) -> Box:
    """A box whose sides have a geometric mean of at least `scale` of the image's; or the whole."""
    whole = random.random() < FULL_IMAGE_CHANCE
    box = random_box(random.uniform(scale, 1), random)
    return WHOLE if whole or scale == 1 else box


def random_box(side: float, random: np.random.Generator) -> Box:
    """A box anywhere in the image whose sides have a geometric mean of `side`, of an aspect within `LARGEST_ASPECT`."""
    stretch = random.uniform(-0.5, 0.5)
    height = min(1.0, side * LARGEST_ASPECT**stretch)
    width = min(1.0, side / LARGEST_ASPECT**stretch)
    top, left = random.random(2) * (1 - height, 1 - width)
    return (float(top), float(left), float(top + height), float(left + width))


def draw_empty_box(mask: np.ndarray, random: np.random.Generator) -> Box | None:
    """A box of sides `EMPTY_SIDES` in which a mask (H, W) is 0 throughout; None if none is found.

    If every training image shows an object, a student finds one in every image; such boxes are images without one.
    """
    height, width = mask.shape
    for _ in range(EMPTY_TRIES):
        y0, x0, y1, x1 = box = random_box(random.uniform(*EMPTY_SIDES), random)
        rows = slice(math.floor(y0 * height), math.ceil(y1 * height))
        if not mask[rows, math.floor(x0 * width) : math.ceil(x1 * width)].any():
            return box
    return None


def mirrored(box: Box, view: str) -> Box:
    """The box in the original image that corresponds to a box of a view; its own inverse."""
    y0, x0, y1, x1 = box
    if view in ("vflip", "rot180"):
        y0, y1 = 1 - y1, 1 - y0
    if view in ("hflip", "rot180"):
        x0, x1 = 1 - x1, 1 - x0
    return (y0, x0, y1, x1)


def colour(image: Tensor, drawn: Draw) -> Tensor:
    """Brightness, contrast, saturation and hue of a float image (3, H, W) in [0, 1]."""
    if drawn.brightness == drawn.contrast == drawn.saturation == 1 and drawn.hue == 0:
        return image
    image = (image * drawn.brightness).clamp_(0, 1)
    image = blend(grey(image).mean(), image, drawn.contrast)
    image = blend(grey(image), image, drawn.saturation)
    return turn_hue(image, drawn.hue)


def blend(base: Tensor, image: Tensor, share: float) -> Tensor:
    """The mixture of `share` of an image (3, H, W) and 1 - `share` of a base, clamped to [0, 1], in place."""
    return image.mul_(share).add_((1 - share) * base).clamp_(0, 1)


def grey(image: Tensor) -> Tensor:
    """The luma (1, H, W) of an RGB image (3, H, W), by ITU-R BT.601."""
    return (image * image.new_tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)).sum(dim=0, keepdim=True)


def turn_hue(image: Tensor, turn: float) -> Tensor:
    """The hue of a float image (3, H, W) in [0, 1] turned by a share of the circle, in HSV; value and saturation stay.

    The same as torchvision's `adjust_hue` in a third of the time; `adjust_hue` took most of the time to load an image.
    """
    red, green, blue = image
    value = torch.maximum(torch.maximum(red, green), blue)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - least
    sextant = torch.where(value == green, blue - red, red - green)
    sextant = torch.where(value == red, green - blue, sextant).div_(chroma.clamp(min=1e-12))
    sextant += torch.where(value == red, 6 * turn, torch.where(value == green, 6 * turn + 2, 6 * turn + 4))
    sextant -= (sextant / 6).floor_().mul_(6)
    planes = torch.stack([sextant - 3, sextant - 2, sextant - 4]).abs_()
    planes[0].neg_()
    planes += planes.new_tensor([1.0, -2.0, -2.0]).view(3, 1, 1)
    return planes.neg_().clamp_(0, 1).mul_(chroma).add_(least)


def to_array(image: Tensor) -> np.ndarray:
    """A float image (3, H, W), from 0 to 255, as uint8 (H, W, 3)."""
    return image.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def to_tensor(array: np.ndarray) -> Tensor:
    """An array (H, W, 3) as a tensor (1, 3, H, W) of the same type, channels innermost in memory."""
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None]
