"""Pairs of image and mask become samples once both files were read and fit together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.file_index import Facts
from distill.data.image_io import Source, read_image, read_mask, threshold_of
from distill.data.mask_classes import LOSSY, MOST_CLASSES, Reading, is_void_beside, read_classes
from distill.data.sample import Reader, Sample
from distill.data.scan import scan
from distill.metrics.overlap import IGNORED
from distill.runtime.issues import Problems, several

NOISE = 15  # levels to which an empty mask may go that once was a JPEG: about 7
DARK_BITS = 14  # of 16: images that use no more are at most a quarter as bright as they may be


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask before they are read; files by their paths as text, which take less than `Path`s."""

    dataset: str
    stem: str
    group: str | None
    image: Source | str
    mask: Source | str
    names: tuple[str, str] | None = None  # as messages call image and mask; None: data set, folder and file name

    @property
    def image_name(self) -> str:
        """The image as messages call it."""
        return self.names[0] if self.names else self._path_in_set(self.image)

    @property
    def mask_name(self) -> str:
        """The mask as messages call it."""
        return self.names[1] if self.names else self._path_in_set(self.mask)

    @property
    def lossy(self) -> bool:
        """Whether the mask is of a format that changes levels."""
        return isinstance(self.mask, str) and self.mask.lower().endswith(LOSSY)

    def _path_in_set(self, source: Source | str) -> str:
        path = Path(str(source))
        return f"{self.dataset}/{path.parent.name}/{path.name}"


Match = tuple[Pair, Facts, Facts]  # with what is known of image and mask


def examine(
    pairs: Sequence[Pair], *, home: Path, problems: Problems, reading: Reading
) -> tuple[list[Sample], list[str]]:
    """Reads every pair; good ones become samples, bad ones problems.

    Args:
        pairs: of any number of data sets.
        home: the folder that keeps the file index.
        problems: what is wrong is added to it.
        reading: how masks are read.

    Returns:
        The samples, data set by data set in the order of the pairs; and notes on what is legitimate but worth knowing.
    """
    facts = scan(
        [*(("image", pair.image) for pair in pairs), *((reading.kind, pair.mask) for pair in pairs)], home=home
    )
    matches: dict[str, list[Match]] = {pair.dataset: [] for pair in pairs}
    for place, pair in enumerate(pairs):
        match = _match(pair, facts[place], facts[len(pairs) + place], problems=problems)
        if match:
            matches[pair.dataset].append(match)
    del facts  # of a million images, and what is known of each, 0.2 GB
    samples: list[Sample] = []
    notes: list[str] = []
    for dataset, found in matches.items():
        notes += [*_note_dark(dataset, [image for _, image, _ in found]), *_note_turned(dataset, found)]
        if not found or not _is_kind(dataset, found, reading, problems=problems):
            continue
        if reading.several:
            threshold = 1
            good = [match for match in found if _in_classes(match, reading, problems=problems)]
            read: Callable[[Any], np.ndarray] = partial(read_classes, colours=reading.colours)
        else:
            highest = max(mask.high for _, _, mask in found)
            threshold = threshold_of(highest)
            good = [match for match in found if _on_scale(match, threshold, highest=highest, problems=problems)]
            read = partial(read_mask, threshold=threshold)
        others = any(mask.high > 0 for name, match in matches.items() if name != dataset for _, _, mask in match)
        notes += _check_content(dataset, [mask for _, _, mask in good], threshold, others=others, problems=problems)
        samples += [_sample(match, read) for match in good]
    return samples, notes


def _is_kind(dataset: str, found: Sequence[Match], reading: Reading, *, problems: Problems) -> bool:
    """Whether the masks of a data set are of the kind that the run reads, which their levels tell if 255 is void."""
    masks = [mask for _, _, mask in found]
    full = [(pair, mask) for pair, _, mask in found if mask.high == IGNORED]
    lossless = not any(pair.lossy for pair, _ in full)
    if not reading.several and full and lossless and all(is_void_beside(mask.below) for _, mask in full):
        classes = 1 + max(mask.below for mask in masks)
        problems.add(
            "class numbers and void",
            f"masks of {dataset} hold class numbers from 0 to {classes - 1} and 255, which is void (as in Pascal VOC), "
            f"but student.classes=1 reads 255 as the foreground; set student.classes={classes}, with which 255 counts "
            "for nothing, or save them with 0 and 255",
            fatal=True,
        )
        return False
    if reading.several and not reading.colours and max(mask.high for mask in masks) == 0 and any(m.void for m in masks):
        problems.add(
            "no class numbers",
            f"masks of {dataset} hold nothing but 0 and 255, but student.classes={reading.classes} reads class "
            "numbers, of which 255 counts for nothing; set student.classes=1, or save 255 as 1",
            fatal=True,
        )
        return False
    return True


def _note_dark(dataset: str, images: Sequence[Facts]) -> list[str]:
    """A note on images of 16 bits that use fewer, as cameras of 12 bits do: they are read as 16 and come out dark."""
    highest = max((image.high for image in images), default=0)
    bits = highest.bit_length()
    if not 0 < bits <= DARK_BITS:
        return []
    return [
        f"images of {dataset} have 16 bits of which {bits} are used (highest level {highest} of 65535), so that they "
        f"are read nearly black; save them in 8 bits, or multiply their levels by {2 ** (16 - bits)}"
    ]


def _note_turned(dataset: str, found: Sequence[Match]) -> list[str]:
    """A note on images that an EXIF tag turns and masks that none turns: of one size they may still not fit."""
    count = sum(image.turned and not mask.turned for _, image, mask in found)
    told = f"{several(count, 'image')} of {dataset} {'is' if count == 1 else 'are'} turned by EXIF, the mask is not"
    return [f"{told}; distill doctor shows them"] if count else []


def _match(pair: Pair, image: Facts | str, mask: Facts | str, *, problems: Problems) -> Match | None:
    """The pair with its facts if both files could be read and are of one size; else what is wrong is recorded."""
    if isinstance(image, str):
        problems.add("unreadable image", f"{pair.image_name} {image}")
    if isinstance(mask, str):
        problems.add("unreadable mask", f"{pair.mask_name} {mask}")
    if isinstance(image, str) or isinstance(mask, str):
        return None
    if image.size == mask.size:
        return pair, image, mask
    (height, width), (rows, columns) = image.size, mask.size
    turned = (rows, columns) == (width, height)
    problems.add(
        "mask of another size",
        f"{pair.mask_name} is {columns} x {rows} pixels (width x height), but its image {pair.image_name} is "
        f"{width} x {height}; "
        + (
            "turn it by a quarter, or remove the EXIF rotation of the image if the mask was drawn without it"
            if turned
            else "save the mask at the size of its image"
        ),
    )
    return None


def _on_scale(match: Match, threshold: int, *, highest: int, problems: Problems) -> bool:
    """Whether a mask has the scale of its data set: 0 and 1 among masks of 0 and 255 would be read as empty."""
    pair, _, mask = match
    lower = mask.high == 1 or NOISE < mask.high < threshold <= highest
    if threshold == 1 or pair.lossy or not lower:
        return True
    holds = "holds only 0 and 1" if mask.high == 1 else f"goes up to {mask.high}"
    problems.add(
        "mask of another scale",
        f"{pair.mask_name} {holds}, but other masks of {pair.dataset} go higher, so that it would be read as empty; "
        "save it with 0 and 255",
    )
    return False


def _in_classes(match: Match, reading: Reading, *, problems: Problems) -> bool:
    """Whether a mask holds class numbers that the run knows; a lossy format would have changed them."""
    pair, _, mask = match
    if mask.high >= reading.classes:
        problems.add(
            "unknown class",
            f"{pair.mask_name} holds class {mask.high}, but student.classes={reading.classes} knows 0 (background) to "
            f"{reading.classes - 1}, and 255, which counts for nothing; raise student.classes or correct the mask",
        )
        return False
    return True


def _check_content(
    dataset: str, masks: Sequence[Facts], threshold: int, *, others: bool, problems: Problems
) -> list[str]:
    """Notes on empty and full masks; a data set that has nothing else is a problem.

    Not so one of frames that show nothing, level 0 throughout, beside `others` that show something.
    """
    if not masks:  # each is a problem already
        return []
    empty = sum(mask.high < threshold for mask in masks)
    full = sum(mask.low >= threshold for mask in masks)
    count = f"{several(len(masks), 'mask')} of {dataset}"
    remedy = f"check its masks (0 and 255, or 0 and 1), or leave {dataset} out by data.train and data.test"
    highest = max(mask.high for mask in masks)
    if empty == len(masks) and (highest > 0 or not others):
        found = f"all {count} are empty (highest value {highest}, foreground begins at {threshold})"
        if 1 < highest <= MOST_CLASSES:
            remedy = f"if they hold class numbers, set student.classes={highest + 1}; else {remedy}"
        problems.add("empty masks", f"{found}: there is nothing to learn; {remedy}", fatal=True)
        return []
    if full and empty + full == len(masks):
        found = f"all {count} are constant ({empty} empty, {full} foreground everywhere)"
        problems.add("constant masks", f"{found}: there is no contour to learn; {remedy}", fatal=True)
        return []
    notes = [f"{empty} of {count} are empty: frames without foreground"] if empty else []
    return notes + ([f"{full} of {count} are foreground everywhere"] if full else [])


def _sample(match: Match, read: Callable[[Any], np.ndarray]) -> Sample:
    """The sample of a matched pair; `read` reads its mask, uint8 (H, W)."""
    pair, image, mask = match
    return Sample(
        dataset=pair.dataset,
        stem=pair.stem,
        key=image.key,
        mask_key=mask.key,
        size=image.size,
        group=pair.group,
        read_image=Reader(read_image, pair.image, image.key),
        read_mask=Reader(read, pair.mask, mask.key),
    )
