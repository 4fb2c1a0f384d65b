"""The files of a place by stem, and which image and mask are a pair; a file without a partner is a problem."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from distill.data.file_names import RENAME, is_utf8
from distill.data.image_io import NO_VOLUMES, SUFFIXES, is_volume
from distill.data.sources.folder_names import LAYOUT, Place, named_after
from distill.data.sources.pairs import Pair
from distill.runtime.issues import Problems, nearest, printable, several


@dataclass(frozen=True)
class Listing:
    """The files of one place by stem. Stems are in Unicode's composed form, as split files have them."""

    name: str  # of the data set
    place: Place
    images: dict[str, list[str]]  # names of the files in the place's folder
    masks: dict[str, list[str]]
    ignored: list[str]  # names of files that are no pictures
    affix: tuple[str, str] = ("", "")  # what masks have before and after the stems of their images

    @property
    def stems(self) -> dict[str, None]:
        """The stems of images and masks; those of images, which are listed in order, come first."""
        return dict.fromkeys((*self.images, *self.masks))

    @property
    def notes(self) -> list[str]:
        """Sentences on how the files are named."""
        notes = []
        if self.ignored:
            shown = ", ".join(self.ignored[:3]) + (", ..." if len(self.ignored) > 3 else "")
            count = several(len(self.ignored), "file")
            notes.append(f"ignored {count} of {self.name} without an image's suffix: {shown}")
        if any(self.affix):
            notes.append(f"masks of {self.name} are named {self.affix[0]}STEM{self.affix[1]} after their images")
        if self.place.others:
            used = f"{self.place.images.name}/ and {self.place.masks.name}/"
            notes.append(f"{self.name}: {used} are read, not {', '.join(self.place.others)} beside them")
        return notes

    @cached_property
    def unread(self) -> str:
        """A clause on a folder within those of images and masks, for messages; empty where there is none."""
        return _unread(self.name, self.place, self.ignored)


def list_files(place: Place, *, name: str, problems: Problems) -> Listing:
    """Lists the part of the data set `name` in a place; an absent or empty folder is a problem.

    Masks are listed under the stems of their images; where the place is one sequence, its name goes before the stem.
    """
    ignored: list[str] = []
    images, masks = (
        _by_stem(folder, place, ignored, name=name, problems=problems) for folder in (place.images, place.masks)
    )
    for folder, found in ((place.images, images), (place.masks, masks)):
        if not folder.is_dir():
            problems.add("missing folder", f"{name} has no folder {folder.name}/; {LAYOUT}", fatal=True)
        elif not found:
            suffixes = " ".join(SUFFIXES)
            sentence = (
                f"{name}/{folder.name} holds no picture; expected files of {suffixes}{_unread(name, place, ignored)}"
            )
            problems.add("empty folder", sentence, fatal=True)
    volumes = [file for file in ignored if is_volume(file)]
    if volumes:
        problems.add("volume", f"{name}/{volumes[0]} (and {len(volumes) - 1} more): {NO_VOLUMES}", fatal=True)
    renamed, affix = named_after(masks, images)
    named = dict[str, list[str]]()
    for stem, files in masks.items():
        named.setdefault(renamed.get(stem, stem), []).extend(files)
    if place.group:
        images, named = ({f"{place.group}-{stem}": f for stem, f in part.items()} for part in (images, named))
    return Listing(name, place, images, named, ignored, affix)


def _unread(name: str, place: Place, ignored: Iterable[str]) -> str:
    folder = next((file for file in ignored if (place.folder / file).is_dir()), None)
    return f"; the folder {name}/{folder}/ is not looked into, so move its files up" if folder else ""


def _by_stem(folder: Path, place: Place, ignored: list[str], *, name: str, problems: Problems) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    meant, suffixes = re.compile(place.stems).fullmatch, {suffix[1:] for suffix in SUFFIXES}
    for file in sorted(os.listdir(folder)) if folder.is_dir() else []:  # noqa: PTH208 - there may be millions
        if file[0] == ".":
            continue
        stem, _, suffix = file.rpartition(".")
        plain = file.isascii()
        stem = stem if plain else unicodedata.normalize("NFC", stem)
        if not stem or suffix.lower() not in suffixes:
            ignored.append(f"{folder.name}/{printable(file)}")
        elif not plain and not is_utf8(file):
            sentence = f"{name}/{folder.name}/{file} has a name that is not UTF-8; {RENAME}"
            problems.add("file name", sentence)
        elif meant(stem):
            found.setdefault(stem, []).append(file)
    return found


def pair(listing: Listing, stems: Iterable[str], groups: Mapping[str, str], *, problems: Problems) -> list[Pair]:
    """The pairs of one place; a stem with too many or too few files is a problem.

    A folder without a single picture is a problem already; its missing counterparts are not named one by one.
    """
    pairs: list[Pair] = []
    folders = (str(listing.place.images), str(listing.place.masks))
    for stem in stems if listing.images and listing.masks else ():
        images, masks = listing.images.get(stem, []), listing.masks.get(stem, [])
        if len(images) == len(masks) == 1:
            group = listing.place.group or groups.get(stem)
            paths = (f"{folders[0]}{os.sep}{images[0]}", f"{folders[1]}{os.sep}{masks[0]}")
            pairs.append(Pair(listing.name, stem, group, *paths))
        elif images or masks:
            _add_unpaired(listing, stem, problems)
    return pairs


def _add_unpaired(listing: Listing, stem: str, problems: Problems) -> None:
    name, place = listing.name, listing.place
    images, masks = listing.images.get(stem, []), listing.masks.get(stem, [])
    for folder, files in ((place.images, images), (place.masks, masks)):
        if len(files) > 1:
            rivals = " and ".join(files)
            sentence = f"{name}/{folder.name} has {rivals} with one stem, so that the pair is not clear"
            problems.add("two files with one stem", f"{sentence}; rename or remove all but one")
    if not masks:
        lone = set() if problems.many else listing.masks.keys() - listing.images.keys()
        wanted = f"{listing.affix[0]}{Path(images[0]).stem}{listing.affix[1]}{Path(images[0]).suffix}"
        expected = f"{name}/{place.masks.name}/{wanted} (or another image suffix)"
        remedy = _namesake(stem, lone) or "; add it or remove the image"
        sentence = f"{name}/{place.images.name}/{images[0]} has no mask; expected {expected}{remedy}{listing.unread}"
        problems.add("missing mask", sentence)
    if not images:
        lone = set() if problems.many else listing.images.keys() - listing.masks.keys()
        expected = f"{name}/{place.images.name}/{stem} with an image suffix"
        remedy = _namesake(stem, lone) or "; add it or remove the mask"
        sentence = f"{name}/{place.masks.name}/{masks[0]} has no image; expected {expected}{remedy}{listing.unread}"
        problems.add("missing image", sentence)


def _namesake(stem: str, lone: Collection[str]) -> str:
    """A hint at the file without a partner that may be the missing one, as a3_mask for a3."""
    longer = sorted(other for other in lone if other.startswith(stem) or stem.startswith(other))
    return f"; did you mean {longer[0]!r}? rename it" if longer else nearest(stem, lone)
