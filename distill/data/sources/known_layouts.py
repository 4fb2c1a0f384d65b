"""The data sets of the field by name, wherever and however the user unpacked them.

data.name=cvc-clinicdb      DIR/Original + Ground Truth, DIR/PNG/..., DIR/CVC-ClinicDB/images + masks, ...
data.name=polypgen          DIR/data_C1/images_C1 + masks_C1 ... data_C6, sequenceData/positive/seq1/...
data.name=pranet            DIR/TrainDataset/image + mask, DIR/TestDataset/{Kvasir,CVC-ClinicDB,...}/images + masks
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from distill.config.schema import DataRecipe
from distill.data.file_names import first_names
from distill.data.image_io import SUFFIXES
from distill.data.part_names import plain
from distill.data.sources.data_sets import Found, require_folder
from distill.data.sources.folder_names import LAYOUT, Place, find_place, find_places, visible_folders
from distill.data.sources.known import FIELD, named, where_from

NUMBERS, NAMES = r"\d+", r"(?!\d+$).*"  # stems of CVC-ClinicDB and of Kvasir-SEG, which PraNet has in one folder


def find_named(data: DataRecipe) -> Found:
    """The folders of the images and masks of the data set of the field that `data.name` names, under `data.root`.

    Raises:
        FileNotFoundError: it is not there; the message says where it is had.
        ValueError: no root, or a split beside the one that the layout is.
    """
    if data.root is None:
        raise ValueError(f"data.name={data.name} needs data.root=DIR, where it was unpacked; {where_from(data.name)}")
    root = Path(data.root).expanduser()
    require_folder(root, f"data.root={data.root}")
    if data.name == "pranet":
        if data.split is not None:
            raise ValueError(f"data.name=pranet is a split itself, but data.split is {data.split}; set data.split=null")
        return find_pranet(root, given=data.root)
    if data.name == "polypgen":
        return find_polypgen(root, given=data.root)
    return find_one(root, name=data.name, given=data.root)


def find_one(root: Path, *, name: str, given: str) -> Found:
    """A data set of one folder: the root itself, or the fullest of the folders below that have its name."""
    direct = find_place(root)
    candidates = [direct] if direct else list(find_places(root))
    mine = [place for place in candidates if place is direct or name in _known_names(place, root)]
    if not mine and len(candidates) == 1 and not _known_names(candidates[0], root):
        mine = candidates
    if not mine:
        found = ", ".join(place.folder.relative_to(root.parent).as_posix() for place in candidates[:6])
        raise _absent(name, given, found or first_names(root.iterdir()))
    mine.sort(key=lambda place: -_count(place))  # the sort is stable: of equals the first path
    notes = []
    if len(mine) > 1:
        others = ", ".join(place.folder.relative_to(root).as_posix() for place in mine[1:])
        notes.append(f"{name} is read from {mine[0].folder.relative_to(root).as_posix()}, not from {others}")
    if _count(mine[0]) not in FIELD[name].images:
        expected = " or ".join(map(str, FIELD[name].images))
        notes.append(f"{name} has {expected} images where it is whole, but {_count(mine[0])} were found")
    return Found(root, {name: (mine[0],)}, tuple(notes))


def find_polypgen(root: Path, *, given: str) -> Found:
    """PolypGen: a data set for each of its centres, and one of its sequences, each of which is a group."""
    places: dict[str, tuple[Place, ...]] = {}
    sequences: list[Place] = []
    for place in find_places(root, depth=5):
        centre = re.fullmatch(r"images(c[1-6])", plain(place.images.name))
        sequence = re.fullmatch(r"images(seq\d+)", plain(place.images.name))
        if centre:
            places[f"polypgen-{centre[1]}"] = (place,)
        elif sequence:
            sequences.append(replace(place, group=sequence[1]))
    if sequences:
        places["polypgen-sequences"] = tuple(sequences)
    if not places:
        raise _absent("polypgen", given, first_names(root.iterdir()))
    negative = [folder for folder in root.glob("**/negativeOnly") if folder.is_dir()]
    notes = (f"polypgen: frames of {negative[0].relative_to(root).as_posix()} have no masks and are not used",)
    return Found(root, dict(sorted(places.items())), notes if negative else ())


def find_pranet(root: Path, *, given: str) -> Found:
    """PraNet's split: one folder of training images of two data sets, which their stems tell apart, and test sets."""
    children = visible_folders(root)
    folders = [*children, *(inner for outer in children for inner in visible_folders(outer))]
    folders += [inner for outer in folders[len(children) :] for inner in visible_folders(outer)]
    # Its archives are often unpacked into folders of their own names: TrainDataset/TrainDataset/image
    trains = (find_place(folder) for folder in folders if plain(folder.name) == "traindataset")
    train = next((place for place in trains if place), None)
    tests = {
        name: place
        for outer in reversed(folders)
        if plain(outer.name) == "testdataset"
        for folder in visible_folders(outer)
        if (name := named(folder.name)) and (place := find_place(folder))
    }
    if train is None or not tests:
        raise _absent("pranet", given, first_names(root.iterdir()))
    places: dict[str, tuple[Place, ...]] = {
        "kvasir-seg": (replace(train, stems=NAMES, part="train"),),
        "cvc-clinicdb": (replace(train, stems=NUMBERS, part="train"),),
    }
    for name, place in tests.items():
        places[name] = (*places.get(name, ()), replace(place, part="test"))
    missing = [name for name in ("kvasir-seg", "cvc-clinicdb", "cvc-colondb", "etis", "cvc-300") if name not in tests]
    notes = (f"pranet: TestDataset has no folder of {', '.join(missing)}",) if missing else ()
    return Found(root, places, notes)


def _known_names(place: Place, root: Path) -> set[str]:
    """The data sets of the field that the folders from the root down to a place are called after."""
    parts = place.folder.relative_to(root.parent if root.parent != root else root).parts
    return {name for part in parts if (name := named(part))}


def _count(place: Place) -> int:
    return sum(path.suffix.lower() in SUFFIXES for path in place.images.iterdir())


def _absent(name: str, given: str, found: str) -> FileNotFoundError:
    layout = {
        "pranet": "expected TrainDataset/ (image/, mask/) and TestDataset/ (Kvasir/images/, Kvasir/masks/, ...)",
        "polypgen": "expected data_C1/ (images_C1/, masks_C1/) to data_C6/",
    }.get(name, LAYOUT)
    return FileNotFoundError(f"no {name} in data.root={given}: {layout}, found {found}; {where_from(name)}")
