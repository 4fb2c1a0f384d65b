"""A folder of predictions and a folder of masks: their pairs by stem, and the meaning of their levels."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from distill.data.file_names import RENAME, is_utf8
from distill.data.image_io import SUFFIXES, as_levels, as_rgb, decode, encoded, read_image, threshold_of
from distill.data.mask_classes import LOSSY, MOST_CLASSES, is_void_beside
from distill.metrics.overlap import IGNORED, Flags
from distill.runtime.issues import SHOWN, nearest, printable, several
from distill.runtime.resize import resize

PROBED = 16  # masks that are examined for void (ignored) pixels
FOREGROUND = 128  # the level from which masks are foreground, if any level exceeds 1
COLOURED = 16  # difference of levels between a pixel's channels, more than JPEG makes of grey
MOST_COLOURS = 256  # of a mask of several classes in colours
ONE_CLASS = "if levels are class numbers, save one class at a time with 0 and 255 in both folders, and score it"


@dataclass(frozen=True)
class Entry:
    """A prediction and its mask."""

    stem: str
    prediction: Path
    mask: Path


@dataclass(frozen=True)
class Reading:
    """The arrays of an entry."""

    probability: np.ndarray  # (H, W) in [0, 1], of the mask's size
    mask: Flags  # (H, W)
    resized: bool


def list_by_stem(folder: Path, *, key: str) -> dict[str, Path]:
    """The pictures of a folder by stem (in Unicode's composed form), sorted by name.

    Args:
        folder: the folder; folders inside it are not searched.
        key: the user's key for it, for error messages.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: it holds no picture, or two with the same stem.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder at {key}={folder}, found {'a file' if folder.exists() else 'none'}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
            continue
        if not is_utf8(path.name):
            raise ValueError(f"{key}={folder} has a file {printable(path.name)}, whose name is not UTF-8; {RENAME}")
        stem = unicodedata.normalize("NFC", path.stem)
        if stem in found:
            raise ValueError(
                f"{key}={folder} has {found[stem].name} and {path.name} with the same stem, so the pair is not clear; "
                "rename or remove one"
            )
        found[stem] = path
    if not found:
        inner = f"; is it {key}={folder / 'masks'}?" if (folder / "masks").is_dir() else ""
        raise ValueError(f"{key}={folder} holds no picture; expected files with {' '.join(SUFFIXES)}{inner}")
    return found


def pair(predictions: Path, masks: Path, *, skip_bad: bool) -> tuple[list[Entry], list[str]]:
    """The pairs of two folders, and a sentence for each file without a partner.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: a file has no partner and `skip_bad` is false, or no file has one.
    """
    found, truth = list_by_stem(predictions, key="predictions"), list_by_stem(masks, key="masks")
    lone = {"mask": found.keys() - truth.keys(), "prediction": truth.keys() - found.keys()}
    sentences: list[str] = []
    for missing, stems in lone.items():
        own, other = (found, lone["prediction"]) if missing == "mask" else (truth, lone["mask"])
        for stem in sorted(stems):
            hint = nearest(stem, other) if len(sentences) < SHOWN else ""
            sentences.append(f"{own[stem].name} has no {missing} with the stem {stem!r}{hint}")
    entries = [Entry(stem, path, truth[stem]) for stem, path in found.items() if stem in truth]
    if not entries:
        raise ValueError(
            f"no prediction in {predictions} has a mask in {masks}: files are paired by stem (a.png with a.jpg), but "
            f"{sentences[0]}"
        )
    settle(sentences, skip_bad=skip_bad)
    return entries, sentences


def settle(sentences: Sequence[str], *, skip_bad: bool) -> None:
    """Raises one ValueError that names all files that cannot be scored, unless they may be left out."""
    if not sentences or skip_bad:
        return
    more = [f"and {len(sentences) - SHOWN} more"] if len(sentences) > SHOWN else []
    lines = [f"{several(len(sentences), 'file')} cannot be scored:", *sentences[:SHOWN], *more]
    raise ValueError("\n  ".join(lines) + "\nfix them, or leave them out with skip_bad=true")


def mask_threshold(paths: Sequence[Path]) -> int:
    """The level from which masks are foreground, the same for all: 128 if any level exceeds 1, else 1.

    Raises:
        ValueError: the highest level lies between, as if levels were class numbers, or 255 is void.
    """
    highest = _highest(paths, _levels, enough=FOREGROUND)
    if 1 < highest < FOREGROUND:
        raise ValueError(
            f"the highest level in the masks is {highest}, but foreground begins at {FOREGROUND}; expected masks of 0 "
            f"and 255, or of 0 and 1; {ONE_CLASS}"
        )
    if highest >= FOREGROUND and _have_void(paths):
        raise ValueError(
            "the masks hold class numbers and 255, which is void (as in Pascal VOC) and would be scored as "
            f"foreground; {ONE_CLASS}"
        )
    return threshold_of(highest)


def _levels(path: Path) -> np.ndarray:
    """The levels (H, W) of a mask, unscaled."""
    return np.asarray(as_levels(decode(encoded(path))))


def _have_void(paths: Sequence[Path]) -> bool:
    """Whether the first masks that hold 255 hold only class numbers besides."""
    found = []
    for path in paths[:PROBED]:
        try:
            levels = _levels(path)
        except (OSError, ValueError):
            continue
        if levels.max() == IGNORED and path.suffix.lower() not in LOSSY:
            found.append(is_void_beside(int(levels[levels < IGNORED].max(initial=0))))
    return bool(found) and all(found)


def prediction_scale(paths: Sequence[Path]) -> int:
    """The level that stands for a probability of 1: 255, or 1 if no prediction exceeds 1 (masks of 0 and 1).

    Raises:
        ValueError: no level exceeds `MOST_CLASSES`, as if levels were class numbers, or levels of more than 8 bits are
            next to 0.
    """
    highest = _highest(paths, read_image, enough=MOST_CLASSES + 1)
    if highest <= 1 and (raw := _highest(paths, _levels, enough=2)) > 1:
        raise ValueError(
            f"the highest level in the predictions is {raw}, but they have more than 8 bits, so it means a probability "
            "next to 0; expected integers up to 65535, floats up to 1, or 8 bits"
        )
    if 1 < highest <= MOST_CLASSES:
        raise ValueError(
            f"the highest level in the predictions is {highest}, a probability of {highest / 255:.2f}; expected grey "
            f"values over 255, or masks of 0 and 255, or of 0 and 1; {ONE_CLASS}"
        )
    return 255 if highest > 1 else 1


def _highest(paths: Sequence[Path], read: Callable[[Path], np.ndarray], *, enough: int) -> int:
    """The highest level in these files' pixels, (H, W) or (H, W, 3), or in the first that reaches `enough`.

    Unreadable files are reported later.
    """
    highest = 0
    for path in paths:
        try:
            highest = max(highest, int(read(path).max()))
        except (OSError, ValueError):
            continue
        if highest >= enough:
            break
    return highest


def read_entries(entries: Sequence[Entry], *, threshold: int, scale: int) -> Iterator[Reading | str]:
    """Yields each entry as arrays, or a sentence on why it cannot be read.

    Args:
        entries: of one data set.
        threshold: the level from which its masks are foreground (`mask_threshold`).
        scale: the level of its predictions that means a probability of 1 (`prediction_scale`).
    """
    for entry in entries:
        path = entry.mask
        try:
            mask = read_truth(path, threshold=threshold)
            path = entry.prediction
            yield fit(read_probability(path, scale=scale), mask)
        except (OSError, ValueError) as error:
            yield f"{path.parent.name}/{path.name} cannot be read ({error})"


def read_truth(path: Path, *, threshold: int) -> Flags:
    """A mask (H, W) that is foreground from `threshold` on; errors as of `read_probability`."""
    picture = decode(encoded(path))
    if len(picture.getbands()) > 2 and (rgb := as_rgb(picture)).getcolors(MOST_COLOURS) is None:
        between = np.abs(np.asarray(rgb.convert("L")) - 127.5) < 127.5 - COLOURED
        if between.mean() > 0.5 and _is_coloured(np.asarray(rgb)):
            raise ValueError(
                "it is a colour picture, such as a photograph, and not a mask; give the folder of the masks"
            )
    return np.asarray(as_levels(picture)) >= threshold


def _is_coloured(pixels: np.ndarray) -> bool:
    return int(np.ptp(pixels, axis=2).max()) > COLOURED


def read_probability(path: Path, *, scale: int = 255) -> np.ndarray:
    """Grey values over `scale`, or black and one colour by its brightest channel: float64 (H, W) in [0, 1].

    16 bits are scaled to 8, unless `scale` is 1.

    Raises:
        OSError: the file is missing, not a picture, or truncated.
        ValueError: its values have no known range, it is in colour, or an alpha channel hides parts of it.
    """
    image = decode(encoded(path))
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise ValueError(
            "it has an alpha channel that is not opaque everywhere, so it is not clear which values are meant; save "
            "the mask itself as grey levels"
        )
    if scale == 1 and image.mode[0] in "IF":  # masks of 0 and 1 in 16 or 32 bits, which are not scaled to 8
        return np.asarray(as_levels(image)).astype(np.float64)
    rgb = as_rgb(image)
    pixels = np.asarray(rgb)
    two = [colour for _, colour in rgb.getcolors(2) or ()]  # none where there are more
    if _is_coloured(pixels) and (0, 0, 0) not in two:
        raise ValueError(
            "it is a colour picture, such as a photograph or an overlay, and not a probability; expected grey levels, "
            "or black and one colour; give the folder of the masks themselves"
        )
    return pixels.max(axis=2) / scale


def fit(probability: np.ndarray, mask: Flags) -> Reading:
    """The probability at the mask's size (H, W), resized (bilinear, antialiased) if necessary."""
    if probability.shape == mask.shape:
        return Reading(probability, mask, resized=False)
    size = (mask.shape[0], mask.shape[1])
    resized = resize(torch.from_numpy(probability)[None, None], size)[0, 0].clamp(0, 1)
    return Reading(resized.numpy().astype(np.float64), mask, resized=True)
