"""Small pictures as data URIs for the page: an image, a mask, a probability, contours, errors."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor
from scipy import ndimage

from distill.inference import drawing
from distill.metrics.overlap import IGNORED, Flags

TRUTH, PREDICTION, BOTH, RIM_COLOUR = map(ImageColor.getrgb, (drawing.TRUTH, drawing.PREDICTION, "white", "black"))
OTHER = (214, 120, 255)  # foreground that was found, but of another class
CLASSES = ((0, 0, 0), (255, 255, 255), (86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66))
"""Background and classes of a mask; further classes repeat the colours after the background (Okabe and Ito)."""

SIDE = 240  # the longer side of a picture, in pixels
LARGE = 320  # of the one with contours
QUALITY = 82
DIM, OPAQUE = 0.55, 0.8  # an error map: the grey image's brightness under the colours, and their opacity
LINES = (2.3, 1.2)  # half the widths of the true and the predicted contour, in pixels
RIM, RIM_OPACITY = 0.9, 0.6  # of the dark rim

Colours = NDArray[np.uint8]


def uri(pixels: Colours, *, exact: bool = False) -> str:
    """A data URI of pixels uint8 (H, W) or (H, W, 3): a JPEG, or if `exact` a PNG, which is small for flat areas."""
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    if exact:
        image.quantize(16).save(stream, "PNG", optimize=True)
    else:
        image.save(stream, "JPEG", quality=QUALITY, optimize=True)
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of a picture of `size` whose longer side is `side`."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resized(pixels: NDArray, size: tuple[int, int], *, smooth: bool = True) -> NDArray:
    """Pixels uint8 (H, W), (H, W, 3) or float32 (H, W) at another size; class numbers must not be smooth."""
    filters = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), filters))


def image_tile(image: Colours) -> str:
    """The image itself, uint8 (H, W, 3)."""
    return uri(resized(image, fitted(image.shape[:2], SIDE)))


def mask_tile(mask: NDArray) -> str:
    """Class numbers (H, W) in flat colours: black background, white class 1, another colour for each further one."""
    small = resized(np.asarray(mask, dtype=np.uint8), fitted(mask.shape, SIDE), smooth=False)
    return uri(class_colours(small), exact=True)


def class_colours(mask: NDArray) -> Colours:
    """Class numbers (...) as RGB (..., 3); 255 (ignored) is grey."""
    palette = np.full((256, 3), 128, dtype=np.uint8)
    rest = len(CLASSES) - 1
    palette[:IGNORED] = [CLASSES[0], *(CLASSES[1 + number % rest] for number in range(IGNORED - 1))]
    return palette[mask]


def probability_tile(probability: NDArray) -> str:
    """A probability (H, W) as grey: black is 0, white is 1."""
    small = resized(np.asarray(probability, dtype=np.float32), fitted(probability.shape, SIDE))
    return uri((255 * small.clip(0, 1)).astype(np.uint8))


def errors_tile(image: Colours, truth: NDArray, found: NDArray) -> str:
    """Correct, false and missed pixels in colour, over the image in grey.

    White: in both masks; amber: in the prediction only; cyan: in the truth only; violet: in both, of another class.

    Args:
        image: uint8 (H, W, 3).
        truth: class numbers (H, W), 255 is ignored.
        found: class numbers (H, W).
    """
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float32)[..., None] * DIM
    colours, counted = np.broadcast_to(grey, (*grey.shape[:2], 3)).copy(), truth != IGNORED
    true, positive = (truth > 0) & counted, (found > 0) & counted
    parts = {
        BOTH: true & (truth == found),
        OTHER: true & positive & (truth != found),
        PREDICTION: positive & ~true,
        TRUTH: true & ~positive,
    }
    for colour, where in parts.items():
        colours[where] = (1 - OPAQUE) * colours[where] + OPAQUE * np.array(colour)
    return uri(resized(colours.astype(np.uint8), fitted(truth.shape, SIDE)))


def contours_tile(image: Colours, truth: Flags, found: Flags) -> str:
    """The image (H, W, 3) with the contours of both masks (H, W): the prediction's thinner line over the truth's, both
    with a dark rim.
    """
    size = fitted(image.shape[:2], LARGE)
    pixels = resized(image, size).astype(np.float32)
    lines = [distances(mask, size) for mask in (truth, found)]
    layers = [(lines[0], LINES[0] + RIM, RIM_COLOUR), (lines[1], LINES[1] + RIM, RIM_COLOUR)]
    layers += [(lines[0], LINES[0], TRUTH), (lines[1], LINES[1], PREDICTION)]
    for away, width, colour in layers:
        opacity = (RIM_OPACITY if colour == RIM_COLOUR else 1.0) * (width + 0.5 - away).clip(0, 1)[..., None]
        pixels += (opacity * (np.array(colour) - pixels)).astype(np.float32)
    return uri(pixels.astype(np.uint8))


def distances(mask: Flags, size: tuple[int, int]) -> NDArray[np.float32]:
    """Distances of all pixels from a mask's outline, float (H, W) of `size`; infinite if there is no outline."""
    large = resized(mask.astype(np.float32), size) >= 0.5
    if large.all() or not large.any():
        return np.full(size, np.inf, dtype=np.float32)
    inside, outside = (ndimage.distance_transform_edt(part) for part in (large, ~large))
    return np.abs(ndimage.gaussian_filter(inside - outside, sigma=0.8)).astype(np.float32)
