"""Names of folders of images and masks as their publishers choose them, and of masks after their images.

Names are compared by `plain`: in lower case, by their letters and digits alone, so that `Ground Truth`, `ground_truth`
and `GroundTruth` are one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from distill.data.part_names import plain

LAYOUT = "expected images/ and masks/ in it (one data set), or folders that hold these (several)"
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "original", "originals", "bbdd", "etislaribpolypdb")
MASK_FOLDERS = (
    *("masks", "mask", "groundtruth", "groundtruths", "gt", "gts", "gtpolyp"),
    *("annotations", "annotation", "labels", "label", "segmentations", "segmentation"),
)
# What a mask's stem has before or after that of its image: 1 and p1 (ETIS), a and a_mask (PolypGen), ...
AFFIXES = (
    *(("", end) for end in ("_mask", "-mask", "_masks", "_gt", "_segmentation", "_seg", "_label", "_labels", "_polyp")),
    *((start, "") for start in ("mask_", "mask-", "gt_", "seg_", "label_", "p")),
)
DEPTH = 3  # folders below data.root in which data sets are looked for


@dataclass(frozen=True)
class Place:
    """The folders of the images and the masks of one data set, or of a part of it."""

    images: Path
    masks: Path
    group: str | None = None  # the sequence that all of it is
    stems: str = ".*"  # pattern of the stems that are meant
    part: str | None = None  # train, val or test, where the layout says it
    others: tuple[str, ...] = ()  # further folders that might have been meant

    @property
    def folder(self) -> Path:
        """The folder that holds both."""
        return self.images.parent


def visible_folders(folder: Path) -> list[Path]:
    """The folders in a folder by name, without hidden ones and what macOS leaves in archives."""
    if not folder.is_dir():
        return []
    return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith((".", "__MACOSX"))]


def find_place(folder: Path) -> Place | None:
    """The images and masks of a folder, if it is a data set; `images/` alone is one whose masks are missing."""
    inside = visible_folders(folder)
    images = _first(inside, IMAGE_FOLDERS)
    masks = _first(inside, MASK_FOLDERS)
    if images and masks:
        unused = (*images[1:], *masks[1:])
        return Place(images[0], masks[0], others=tuple(f"{path.name}/" for path in unused))
    if images and images[0].name == "images":
        return Place(images[0], folder / "masks")
    return _numbered(inside)


def find_places(root: Path, *, depth: int = DEPTH) -> Iterator[Place]:
    """Every data set in a folder and below, in the order of their paths; none inside another."""
    place = find_place(root)
    if place:
        yield place
    elif depth:
        for folder in visible_folders(root):
            yield from find_places(folder, depth=depth - 1)


def named_after(masks: Collection[str], images: Collection[str]) -> tuple[dict[str, str], tuple[str, str]]:
    """The image that each mask is named after, where masks do not simply have the names of their images.

    The affix that pairs most of them counts for the whole data set, if it pairs more than equal names do; a single
    mask with another name is a mistake and not a convention.

    Args:
        masks: stems of the masks.
        images: stems of the images.

    Returns:
        Mask's stem -> image's stem where they differ, and what is put before and after the image's stem.
    """
    others = [stem for stem in masks if stem not in images]
    most = len(masks) - len(others)
    best: tuple[dict[str, str], tuple[str, str]] = ({}, ("", ""))
    for start, end in AFFIXES:
        pairs = {stem: _without(stem, start, end) for stem in others}
        pairs = {stem: image for stem, image in pairs.items() if image in images and image not in masks}
        if len(pairs) > most:
            most, best = len(pairs), (pairs, (start, end))
    return best


def _without(stem: str, start: str, end: str) -> str:
    fits = stem.lower().startswith(start) and stem.lower().endswith(end)
    return stem[len(start) : len(stem) - len(end)] if fits else ""


def _first(folders: list[Path], names: tuple[str, ...]) -> list[Path]:
    """The folders that have one of the names, the earliest name first."""
    found = [path for path in folders if plain(path.name) in names]
    return sorted(found, key=lambda path: names.index(plain(path.name)))


def _numbered(folders: list[Path]) -> Place | None:
    """`images_C1` with `masks_C1`, as PolypGen has them."""
    by_name = {plain(path.name): path for path in folders}
    for name, path in by_name.items():
        masks = by_name.get(name.replace("images", "masks", 1)) if name.startswith("images") else None
        if masks:
            return Place(path, masks)
    return None
