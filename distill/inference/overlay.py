"""Masks as pictures: a palette, and a mask drawn onto its image as a translucent fill with a contour.

The contour is antialiased: the mask is blurred, and a blurred edge follows the normal distribution function of the
distance to it. Each level of the blurred mask thus stands for a distance, and a table gives its colour.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter
from scipy.special import ndtri

from distill.inference.drawing import PREDICTION, TRUTH
from distill.runtime.boxes import box_around

COLOURS = (PREDICTION, TRUTH, "#ff5d9e", "#8ce563", "#b18cff", "#ff7a3d", "#4f8cff", "#f4f4f6")  # of classes 1 to 8
GOLDEN = 0.618034  # at this distance on the circle, successive hues differ clearly
FILL, RIM = 0.26, 0.55  # opacity of the fill and of the dark rim that shows the contour on any image
DEVIATIONS = 1.6  # of the blur within the reach of the line, so that 8 bits can tell distances apart
EDGE = 128  # the level of a blurred mask on its edge


def colour(label: int) -> tuple[int, int, int]:
    """The colour of a class, as RGB of 0..255; black for the background."""
    if label == 0:
        return 0, 0, 0
    if label <= len(COLOURS):
        red, green, blue = bytes.fromhex(COLOURS[label - 1].removeprefix("#"))
        return red, green, blue
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(label * GOLDEN % 1, 0.65, 1.0))
    return red, green, blue


def palette(classes: int) -> dict[str, str]:
    """Class number to colour (`#rrggbb`), background included, as a record states it."""
    return {str(label): "#{:02x}{:02x}{:02x}".format(*colour(label)) for label in range(max(classes, 2))}


def mask_picture(labels: np.ndarray, *, classes: int) -> Image.Image:
    """Class numbers uint8 (H, W) as a picture: 0 and 255 for one class, else the numbers themselves with a palette."""
    if classes == 1:
        return Image.fromarray(labels * np.uint8(255))
    picture = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    picture.putpalette([part for label in range(classes) for part in colour(label)])
    return picture


def probability_picture(plane: np.ndarray) -> Image.Image:
    """A probability (H, W) as greys, 255 for 1; grey 128 is the first from 0.5 on."""
    return Image.fromarray(np.rint(plane * 255).astype(np.uint8))


def draw_overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """An image with its mask drawn onto it.

    Args:
        image: RGB uint8 (H, W, 3).
        labels: class numbers uint8 (H, W), 0 is background.

    Returns:
        RGB uint8 (H, W, 3).
    """
    drawn = image.copy()
    width = max(2.0, min(labels.shape) / 250)
    for label in range(1, int(labels.max()) + 1):
        mask = labels == label
        if mask.any():
            _draw(drawn, mask, paint=colour(label), width=width)
    return drawn


def _draw(drawn: np.ndarray, mask: np.ndarray, *, paint: tuple[int, int, int], width: float) -> None:
    """Draws one class, bool (H, W), into an image uint8 (H, W, 3) in place, in its box and a little around it."""
    reach = _reach(width)
    window = box_around(mask, margin=int(np.ceil(2 * reach)) + 1)
    inside = mask[window].astype(np.uint8)
    blurred = Image.fromarray(inside * np.uint8(255)).filter(ImageFilter.GaussianBlur(reach / DEVIATIONS))
    level = np.maximum(np.asarray(blurred), inside * np.uint8(EDGE))  # a single pixel blurs away, but must stay visible
    keep, add = _tables(width)
    region = drawn[window]
    mixed = region * keep[level][..., None] + np.asarray(paint, np.float32) * add[level][..., None]
    region[...] = np.rint(mixed).astype(np.uint8)


def _reach(width: float) -> float:
    """The distance from the edge of a mask to the end of line and rim, in pixels."""
    return 0.9 * width + 0.5


@lru_cache(maxsize=8)
def _tables(width: float) -> tuple[np.ndarray, np.ndarray]:
    """For each level of a blurred mask: how much of the image stays, and how much colour is added, float32 (256,)."""
    half, reach = width / 2, _reach(width)
    distance = reach / DEVIATIONS * ndtri(np.clip(np.arange(256) / 255, 1e-3, 1 - 1e-3))  # positive inside
    line = np.clip(half + 0.5 - abs(distance), 0, 1)
    rim = RIM * np.clip(reach - abs(distance), 0, 1)
    fill = FILL * np.clip(distance + 0.5, 0, 1)
    keep = (1 - fill) * (1 - rim) * (1 - line)
    return keep.astype(np.float32), (fill * (1 - rim) * (1 - line) + line).astype(np.float32)
