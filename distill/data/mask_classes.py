"""Masks of several classes: from levels, palette indices or colours to class numbers.

Class 0 is the background, 255 is ignored. A lossy format destroys class numbers, but not colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from distill.data.image_io import Source, as_rgb, decode, encoded
from distill.metrics.overlap import IGNORED

LOSSY = (".jpg", ".jpeg", ".webp")  # in such a mask, small values may be noise
MOST_CLASSES = 32  # a picture with no higher levels, except perhaps 255, holds class numbers
FAR = 100.0  # distance in RGB from which a pixel has no colour of the table; JPEG noise stays below
FAR_SHARE = 0.01  # share of a mask's pixels that may be so far from all colours


@dataclass(frozen=True)
class Reading:
    """The way to read the masks of a run."""

    classes: int = 1  # 1: foreground and background; more: class numbers, background included
    colours: tuple[str, ...] = ()  # of each class, as ff0000; none: levels or palette indices are the numbers

    def __post_init__(self) -> None:
        if self.colours and len(self.colours) != self.classes:
            raise ValueError(
                f"data.colours names {len(self.colours)} colours, but student.classes is {self.classes}; give one "
                f"colour for each class, the background first"
            )

    @property
    def several(self) -> bool:
        """Whether masks hold class numbers."""
        return self.classes > 1

    @property
    def kind(self) -> str:
        """The kind under which the file index keeps facts of masks read this way."""
        return " ".join(["classes", *self.colours]) if self.several else "mask"


def read_classes(source: Source | str | bytes, *, colours: tuple[str, ...] = ()) -> np.ndarray:
    """Reads a mask of several classes as uint8 (H, W) of class numbers; 255 is ignored.

    Args:
        source: path or encoded bytes of the mask.
        colours: of the classes, background first; if empty, levels or palette indices are the class numbers.

    Raises:
        OSError: the file is missing, truncated or not a picture.
        ValueError: its pixels are not class numbers, or have no colour of the table.
    """
    return as_classes(decode(encoded(source)), colours=colours)


def as_classes(image: Image.Image, *, colours: tuple[str, ...] = ()) -> np.ndarray:
    """A decoded mask as class numbers, uint8 (H, W)."""
    if colours:
        return _by_colour(np.asarray(as_rgb(image)), colours)
    if image.mode in ("1", "L", "P"):
        return np.array(image, dtype=np.uint8)
    if image.mode[0] in "IF":
        return _by_number(np.asarray(image))
    channels = np.asarray(image.convert("L") if image.mode in ("LA", "La") else as_rgb(image))
    if channels.ndim == 3 and (channels != channels[..., :1]).any():
        raise ValueError(
            "is a colour picture, but student.classes asks for class numbers; save it as levels or palette indices 0, "
            "1, 2, ..., or give the colour of each class, as data.colours=[000000,ff0000,00ff00]"
        )
    return np.array(channels if channels.ndim == 2 else channels[..., 0])


def is_void_beside(below: int) -> bool:
    """Whether 255 means void in a mask, given its highest level below 255 (0 in a mask of one class)."""
    return 0 < below <= MOST_CLASSES


def _by_number(values: np.ndarray) -> np.ndarray:
    """Class numbers, uint8 (H, W), of wide integers or whole floats."""
    if values.min() < 0 or values.max() > IGNORED or (values != np.rint(values)).any():
        raise ValueError(
            f"holds {values.dtype} from {values.min():g} to {values.max():g}, but class numbers lie between 0 and "
            f"{IGNORED}; save it in 8 bits"
        )
    return values.astype(np.uint8)


def _by_colour(pixels: np.ndarray, colours: tuple[str, ...]) -> np.ndarray:
    """uint8 (H, W): the class of the nearest colour of each pixel (H, W, 3), in RGB."""
    table = np.array([list(bytes.fromhex(colour.removeprefix("#"))) for colour in colours], dtype=np.float32)
    distances = np.stack([((pixels - colour) ** 2).sum(axis=2) for colour in table])
    far = float((distances.min(axis=0) > FAR**2).mean())
    if far > FAR_SHARE:
        raise ValueError(
            f"has {far:.0%} of its pixels in no colour of data.colours ({', '.join(colours)}); add the missing "
            f"colour, or correct the mask"
        )
    return distances.argmin(axis=0).astype(np.uint8)
