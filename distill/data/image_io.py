"""Pixels from files of any size and mode that Pillow reads, in one form.

An image becomes uint8 (H, W, 3) RGB, a mask uint8 (H, W) of 0 and 1; `distill.data.mask_classes` reads class numbers.
The EXIF rotation of a file is applied to that file only: a mask without one is taken as drawn on the upright
picture.
"""

from __future__ import annotations

import hashlib
import io
import stat
import warnings
from functools import reduce
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from distill.runtime.issues import printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # of these suffixes; GIF for the demo and the datasets library
NO_PICTURE = f"is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture"
VOLUMES = (".dcm", ".dicom", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
NO_VOLUMES = "3-D volumes, DICOM and NIfTI are not supported: save each slice or frame, and its mask, as its own PNG"
SEVERAL = ("GIF", "PNG", "TIFF", "WEBP")  # formats in which a second picture is another slice or frame


NEARLY_FULL = 255 * 256  # a level from which 16 bits count as fully used
MOST_PIXELS = 100_000_000  # of a picture; as RGB 0.3 GB, in several copies
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the turn that makes the picture upright."""

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode` has a limit of its own


class TooLargeError(OSError):
    """A picture with too many pixels."""


class NotAFileError(OSError):
    """A pipe, a device or a socket instead of a file."""


class Source(Protocol):
    """A source of the bytes of one encoded picture, such as a `Path`."""

    def read_bytes(self) -> bytes:
        """The encoded bytes."""


def read_image(source: Source | str | bytes, *, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Reads an image as uint8 (H, W, 3) RGB.

    Greyscale is repeated over the channels, a palette is resolved, alpha is dropped (not composited), integers of 16
    bits are scaled from 0..65535, floats from 0..1.

    Args:
        source: path or encoded bytes of the image.
        most_pixels: larger images are refused before they are decoded.

    Raises:
        OSError: the file is missing, not a regular file, not a picture, truncated or too large.
        ValueError: it holds several pictures, or its values have no known range.
    """
    image = decode(encoded(source), most_pixels=most_pixels)
    return np.array(as_rgb(image))  # a copy: torch needs writable memory


def read_mask(source: Source | str | bytes, *, threshold: int) -> np.ndarray:
    """Reads a binary mask as uint8 (H, W): 1 where the level is at least `threshold`, else 0.

    Args:
        source: path or encoded bytes of the mask.
        threshold: 128, or 1 if no mask of the whole data set exceeds 1 (see `threshold_of`).

    Raises:
        OSError: the file is missing, truncated or not a picture.
    """
    return (np.asarray(as_levels(decode(encoded(source)))) >= threshold).view(np.uint8)


def threshold_of(highest: int) -> int:
    """The level from which a mask is foreground, given the highest level in the whole data set.

    It is decided per data set, never per file: an empty mask saved as JPEG holds 0-7.
    """
    return 128 if highest > 1 else 1


def encoded(source: Source | str | bytes) -> bytes:
    """The bytes behind a source.

    Raises:
        OSError: the file is missing or cannot be read, or is a pipe or a device, whose bytes may never end.
    """
    if isinstance(source, bytes):
        return source
    if not isinstance(source, (str, Path)):
        return source.read_bytes()
    path = Path(source)
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotAFileError("it is a pipe or a device, not a regular file")
    return path.read_bytes()


def unchanged(source: Source | str, key: str) -> bytes:
    """The bytes behind a source, which still have the sha256 `key` (hex): what is made of them is filed under it.

    Raises:
        ValueError: the source cannot be read any more, or holds other bytes.
    """
    try:
        data = encoded(source)
    except OSError as error:
        raise ValueError(
            f"{printable(source)} {why_unreadable(error)}; it was there when the data was opened"
        ) from error
    if hashlib.sha256(data).hexdigest() != key:
        raise ValueError(f"{printable(source)} has changed since the data was opened; type the same command again")
    return data


def decode(data: bytes, *, most_pixels: int = MOST_PIXELS) -> Image.Image:
    """Decodes every pixel (so that truncated files are noticed) and applies the EXIF rotation.

    Whatever Pillow raises becomes one of the errors below, so one bad file never ends a run.

    Raises:
        OSError: not a picture (`PIL.UnidentifiedImageError`), damaged, or with too many pixels (`TooLargeError`).
        ValueError: it holds several pictures, like a volume or a video.
    """
    try:
        image = opened(data)
        if image.width * image.height > most_pixels:
            raise TooLargeError(
                f"it has {image.width} x {image.height} pixels, but at most {most_pixels:,} are allowed"
            )
        pictures = getattr(image, "n_frames", 1) if image.format in SEVERAL else 1
        image.load()
        image = upright(image)
    except UnidentifiedImageError as error:
        raise UnidentifiedImageError(f"it {NO_PICTURE}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeError(f"it has too many pixels; at most {most_pixels:,} are allowed") from error
    except MemoryError as error:
        raise TooLargeError("it does not fit into memory") from error
    except OSError:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged files
        raise OSError(str(error) or type(error).__name__) from error
    if pictures > 1:
        raise ValueError(f"holds {pictures} pictures; {NO_VOLUMES}")
    return image


def opened(data: bytes) -> Image.Image:
    """A picture whose header is read; only `FORMATS` are tried, because EPS would start Ghostscript."""
    return Image.open(io.BytesIO(data), formats=FORMATS)


def upright(image: Image.Image) -> Image.Image:
    """A picture turned by its EXIF orientation; other EXIF entries are not read, as any may be malformed."""
    turn = turn_of(image)
    return image if turn is None else image.transpose(turn)


def is_turned(data: bytes) -> bool:
    """Whether an EXIF tag turns the picture with these encoded bytes."""
    return turn_of(opened(data)) is not None


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """The turn that makes a picture upright, by its EXIF orientation; None if no turn is needed or known."""
    return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))


def why_unreadable(error: Exception) -> str:
    """The end of a sentence that begins with the name of an unreadable file: what is wrong, and what to do.

    Args:
        error: the error that `read_image`, `read_mask` or `decode` raised.
    """
    if isinstance(error, UnidentifiedImageError):
        return f"{NO_PICTURE}; replace or remove it"
    if isinstance(error, NotAFileError):
        return "is a pipe or a device, not a regular file; remove it"
    if isinstance(error, TooLargeError):
        return f"is too large ({error}); save it smaller or in tiles"
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        return f"cannot be opened ({error.strerror}); check the file and its permissions"
    if isinstance(error, OSError):
        return f"is truncated or damaged ({error}); copy it again from its origin"
    if isinstance(error, ValueError):
        return str(error)
    return f"cannot be read ({type(error).__name__}: {error}); copy it again from its origin"


def is_volume(name: str) -> bool:
    """Whether a file name has the suffix of a volume format."""
    return name.lower().endswith(VOLUMES)


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as 8-bit RGB."""
    if image.mode == "RGB":
        return image
    if image.mode[0] in "IF":
        return Image.fromarray(_scaled(np.asarray(image))).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:  # Pillow warns when the alpha of a palette is dropped
        image = image.convert("RGBA")
    return image.convert("RGB")


def as_levels(image: Image.Image) -> Image.Image:
    """A mask of any mode as one 8-bit channel, unscaled.

    Colours count by their brightest channel. A palette of greys counts by its greys, another palette by its indices
    (the classes), unless black is not at index 0, as when colours were reduced to a palette. Fully used 16 bits are
    scaled to 8; otherwise values over 255 count as 255.
    """
    if image.mode == "L":
        return image
    if image.mode in ("LA", "RGBA") and _is_in_alpha(image):
        raise ValueError("has its shape in the alpha channel alone, of one colour; save it with levels of 0 and 255")
    if image.mode[0] in "IF":
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise ValueError("holds values that are infinite or undefined; save it with 0 and 255, or class numbers")
        values = values / 257 if image.mode[0] == "I" and NEARLY_FULL <= values.max() <= 65535 else values
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    if image.mode == "P" and _has_indices(image):
        return Image.fromarray(np.asarray(image))
    if image.mode in ("1", "LA"):
        return image.convert("L")
    return reduce(ImageChops.lighter, as_rgb(image).split())


def _is_in_alpha(image: Image.Image) -> bool:
    """Whether all pixels have one colour and differ in alpha alone, as when an object was cut out."""
    pixels = np.asarray(image)
    pixels = pixels.reshape(-1, pixels.shape[-1])
    varies = pixels.min(axis=0) < pixels.max(axis=0)
    return bool(varies[-1]) and not varies[:-1].any()


def _has_indices(image: Image.Image) -> bool:
    """Whether the indices of a palette count: it is not all grey, and black, if used, has index 0."""
    palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
    used = np.unique(np.asarray(image))
    black = [index for index in used[used < len(palette)].tolist() if not palette[index].any()]
    return bool((palette != palette[:, :1]).any()) and min(black, default=0) == 0


def _scaled(values: np.ndarray) -> np.ndarray:
    """Integers of 16 bits, or floats in [0, 1], of any shape, mapped to uint8; ValueError for other values."""
    low, high = float(values.min()), float(values.max())
    ceiling = 1.0 if values.dtype.kind == "f" else 65535.0
    if not (low >= 0 and high <= ceiling):
        raise ValueError(
            f"holds {values.dtype} from {low:g} to {high:g}, but these must lie between 0 and {ceiling:g}; convert "
            f"it to 8 bits"
        )
    return np.rint(values * (255 / ceiling)).astype(np.uint8)
