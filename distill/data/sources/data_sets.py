"""The data sets that a folder holds, and which of them are trained on and which are tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter
from pathlib import Path

from distill.config.schema import DataRecipe
from distill.data.file_names import RENAME, first_names, is_utf8
from distill.data.image_io import NO_VOLUMES, is_volume
from distill.data.part_names import PARTS, plain
from distill.data.sources.folder_names import LAYOUT, Place, find_places
from distill.runtime.issues import nearest, printable


@dataclass(frozen=True)
class Found:
    """The data sets that a folder holds."""

    root: Path
    places: dict[str, tuple[Place, ...]]  # by name
    notes: tuple[str, ...] = ()

    @property
    def divided(self) -> bool:
        """Whether the layout itself says what is trained on and what is tested."""
        return any(place.part for places in self.places.values() for place in places)


def find_data_sets(given: str | None) -> Found:
    """The root and the place of each data set in it, by name in alphabetical order."""
    if given is None:
        raise ValueError(f"data.name=folder needs data.root=FOLDER; {LAYOUT}")
    root = Path(given).expanduser()
    require_folder(root, f"data.root={given}")
    places = list(find_places(root))
    if not places:
        shown = first_names(root.iterdir())
        volumes = f"; {NO_VOLUMES}" if any(is_volume(path.name) for path in root.iterdir()) else ""
        raise FileNotFoundError(f"no data set in data.root={given}: {LAYOUT}, found {shown}{volumes}")
    broken = [printable(path.name) for path in sorted(root.iterdir()) if path.is_symlink() and not path.exists()]
    notes = [f"passed over links in data.root={given} that lead nowhere: {', '.join(broken)}"] if broken else []
    parts = [PARTS.get(plain(next(iter(place.folder.relative_to(root).parts), ""))) for place in places]
    if {"train", "test"} <= set(parts):
        places = [replace(place, part=part) for place, part in zip(places, parts, strict=True)]
        notes.append(f"the folders of data.root={given} are the parts of a split, by their names")
    elif len(places) > 1 and any(parts):
        found = ", ".join(place.folder.name for place, part in zip(places, parts, strict=True) if part)
        absent = " and none for ".join(name for name in ("train", "test") if name not in parts)
        notes.append(
            f"data.root={given} has no folder for {absent}, so that {found} counts as a data set like others, "
            "which is cut at random"
        )
    named = sorted(zip(_names_of(places, root, given=given), places, strict=True), key=itemgetter(0))
    return Found(root, {name: (place,) for name, place in named}, tuple(notes))


def _names_of(places: Sequence[Place], root: Path, *, given: str) -> list[str]:
    """The folder's name of each data set; of those that share one, the path below the root."""
    names = [name_of(place.folder) for place in places]
    for name in names:
        if not is_utf8(name):
            raise ValueError(f"{printable(name)} in data.root={given} has a name that is not UTF-8; {RENAME}")
    counts = Counter(names)
    names = [
        name if counts[name] == 1 else "-".join(place.folder.relative_to(root).parts)
        for name, place in zip(names, places, strict=True)
    ]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"data.root={given} has {count} data sets of the name {name}; rename the folder of one")
    return names


def require_folder(root: Path, said: str, *, expected: str = LAYOUT) -> None:
    """Raises FileNotFoundError, with the key as typed (`said`) and what is expected, unless the root is a folder."""
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        hint = NO_VOLUMES if is_volume(root.name) else expected
        raise FileNotFoundError(f"{said} {kind} (resolved to {root.absolute()}); {hint}")


def name_of(folder: Path) -> str:
    """The name of a folder as a data set, also of one that is written as `.` or `DIR/..`."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def choose_data_sets(data: DataRecipe, folders: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """The names of the data sets to train on, and of those to test on.

    Raises:
        ValueError: one that is not there, or one that is both trained on and in `data.test_only`.
    """
    _require_names(data, folders)
    trained = list(dict.fromkeys(data.train)) or list(folders)
    tested = list(dict.fromkeys(data.test)) or list(folders)
    whole = list(dict.fromkeys(data.test_only))
    for name in whole:
        if name in data.train:
            raise ValueError(
                f"data.train and data.test_only both name {name!r}, but a data set of which every image is tested must "
                f"not be trained on; take it out of one of them"
            )
    trained = [name for name in trained if name not in whole]
    if not trained:
        raise ValueError(
            f"data.test_only names every data set under data.root ({', '.join(whole)}), so that none is left to train "
            f"on; take one out"
        )
    return trained, list(dict.fromkeys([*tested, *whole]))


def _require_names(data: DataRecipe, folders: Mapping[str, object]) -> None:
    """Raises ValueError, naming all data sets that were asked for and are not there, and the keys that name them."""
    asked = {"data.train": data.train, "data.test": data.test, "data.test_only": data.test_only}
    absent = {key: [name for name in names if name not in folders] for key, names in asked.items()}
    absent = {key: names for key, names in absent.items() if names}
    if not absent:
        return
    unknown = list(dict.fromkeys(chain(*absent.values())))
    said = "; ".join(f"{key} names {' and '.join(map(repr, names))}" for key, names in absent.items())
    hint = next(filter(None, (nearest(name, folders) for name in unknown)), "")
    raise ValueError(
        f"{said}, which {'is' if len(unknown) == 1 else 'are'} not under data.root; choose from {', '.join(folders)}, "
        f"or for your own data, all that is there, add {' '.join(f'{key}=[]' for key in absent)}{hint}"
    )
