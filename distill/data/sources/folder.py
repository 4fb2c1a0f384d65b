"""Data sets in folders: `images/` and `masks/` with one stem a pair, perhaps a file that groups them.

One data set:               Several:

    polyps/                     root/
      images/a.jpg ...            kvasir-seg/images/..., kvasir-seg/masks/...
      masks/a.png ...             cvc-clinicdb/images/..., .../masks/..., .../sequences.csv

The name of a data set is that of its folder. Other names of folders that are in use, and masks called after their
images, are known (`distill.data.sources.folder_names`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter
from pathlib import Path

from distill.config.schema import DataRecipe
from distill.data.file_names import RENAME, is_utf8, printable
from distill.data.image_io import NO_VOLUMES, is_volume
from distill.data.mask_classes import FOREGROUND, Reading
from distill.data.part_names import PARTS, plain
from distill.data.sample import Sample, Splits, by_dataset
from distill.data.sources.folder_names import LAYOUT, Place, find_places
from distill.data.sources.known import known_sequences
from distill.data.sources.listing import Listing, list_files, pair
from distill.data.sources.pairs import Pair, examine
from distill.data.split_files import Roles, read_groups, read_roles
from distill.data.splits import Parts, cut_test, finish
from distill.runtime.issues import Problems, nearest, several


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


def open_folder(data: DataRecipe, *, home: Path, reading: Reading = FOREGROUND) -> Splits:
    """Opens the data sets under `data.root` and splits them.

    With `data.split` its files decide, and a data set that they do not mention and that is tested is tested as a
    whole; without, `data.fractions` of each data set, at random by content. One that `data.test_only` names is tested
    as a whole whatever the split says, and never trained on.

    Args:
        data: the data part of a recipe with `name: folder`.
        home: the folder that keeps the file index.
        reading: how masks are read.

    Raises:
        FileNotFoundError: the root or the split is not there, or holds no data set.
        ValueError: files that cannot be used (unless `data.skip_bad`), or choices that do not fit together.
    """
    return open_found(find_data_sets(data.root), data, home=home, reading=reading)


def open_found(found: Found, data: DataRecipe, *, home: Path, reading: Reading) -> Splits:
    """Splits data sets once it is known where they lie; arguments and errors as above."""
    trained, tested = choose_data_sets(data, found.places)
    problems = Problems(str(found.root))
    chosen = list(dict.fromkeys([*trained, *tested]))
    inventory = take_inventory(found, data, chosen, trained=trained, tested=tested, problems=problems)
    samples, said = examine(inventory.pairs, home=home, problems=problems, reading=reading)
    notes = [*found.notes, *inventory.notes, *said, *problems.settle(skip=data.skip_bad)]
    if inventory.roles is None:
        return _split_at_random(samples, data, trained=trained, tested=tested, notes=notes)
    return _split_by_roles(samples, data, inventory.roles, tested=tested, notes=notes)


@dataclass(frozen=True)
class Inventory:
    """The pairs of the chosen data sets before they are read, and which part each is in."""

    pairs: list[Pair]
    roles: Roles | None  # None: no split was given
    notes: list[str]


def take_inventory(
    found: Found,
    data: DataRecipe,
    chosen: Sequence[str],
    *,
    trained: Sequence[str],
    tested: Sequence[str],
    problems: Problems,
) -> Inventory:
    """Lists and pairs the files of the chosen data sets; what is wrong with names and tables becomes a problem."""
    listings = [list_files(place, name=name, problems=problems) for name in chosen for place in found.places[name]]
    names = {name: set[str]().union(*(one.stems for one in listings if one.name == name)) for name in chosen}
    roles = None
    if data.split is not None:
        known = {name: names.get(name) for name in found.places}
        roles = read_roles(data, known, trained=trained, tested=tested, problems=problems)
    elif found.divided:
        roles = roles_of(listings, data, trained=trained, tested=tested)
    notes = [note for listing in listings for note in listing.notes] + (list(roles.notes) if roles else [])
    require_group_file(data, listings)
    pairs: list[Pair] = []
    for listing in listings:
        stems = roles.stems(listing.name) if roles else sorted(listing.stems)
        groups = groups_of(listing, data.groups, problems=problems)
        if groups and not (listing.place.folder / str(data.groups)).is_file():
            notes.append(f"sequences of {listing.name} are known by the numbers of its frames")
        if groups and (alone := sum(stem not in groups for stem in stems)):
            notes.append(
                f"{alone} of {several(len(stems), 'image')} of {listing.name} are in no group ({data.groups}): each is "
                "taken for one of its own"
            )
        pairs += pair(listing, stems, groups, problems=problems)
    return Inventory(pairs, roles, list(dict.fromkeys(notes)))


def roles_of(
    listings: Iterable[Listing], data: DataRecipe, *, trained: Collection[str], tested: Collection[str]
) -> Roles:
    """The parts that the layout itself names; a data set in `data.test_only` is tested as a whole.

    Raises:
        ValueError: a further data set lies beside the parts, and nothing says what it is for.
    """
    parts: dict[tuple[str, str], str] = {}
    for listing in listings:
        if listing.place.part is None and listing.name not in [*data.train, *data.test_only]:
            raise ValueError(
                f"{listing.name} lies beside folders that are the parts of a split, by their names; say what it is "
                f"for: data.test_only=[{listing.name}], or name all that is trained on in data.train, or all data "
                "sets that are used in data.train and data.test"
            )
        part = "test" if listing.name in data.test_only else listing.place.part or "train"
        if listing.name in (tested if part == "test" else trained):
            parts.update({(listing.name, stem): part for stem in listing.stems})
    return Roles(parts, has_val="val" in parts.values(), notes=())


def groups_of(listing: Listing, name: str | None, *, problems: Problems) -> dict[str, str]:
    """The group of each stem: from the data set's group file, else from the known sequences of a public data set."""
    groups = read_groups(listing.place.folder, name, listing.images, problems=problems)
    return groups or (known_sequences(listing.name, listing.images) if name else {})


def require_group_file(data: DataRecipe, listings: Iterable[Listing]) -> None:
    """Raises FileNotFoundError where a file of groups was asked for by name and no data set has it."""
    folders = [listing.place.folder for listing in listings]
    if data.names_groups and not any((folder / str(data.groups)).is_file() for folder in folders):
        raise FileNotFoundError(
            f"data.groups={data.groups}, but there is no such file in {' or '.join(map(str, folders[:3]))}; put it "
            "beside images/, or set data.groups=null"
        )


def find_data_sets(given: str | None) -> Found:
    """The root and the place of each data set in it, by name in alphabetical order."""
    if given is None:
        raise ValueError(f"data.name=folder needs data.root=FOLDER; {LAYOUT}")
    root = Path(given).expanduser()
    require_folder(root, given)
    places = list(find_places(root))
    if not places:
        content = [printable(path.name) for path in sorted(root.iterdir())]
        volumes = f"; {NO_VOLUMES}" if any(map(is_volume, content)) else ""
        shown = ", ".join(content[:8]) or "nothing"
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
    names = [_name_of(place.folder) for place in places]
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


def require_folder(root: Path, given: str) -> None:
    """Raises FileNotFoundError, saying what is expected, unless the root is a folder."""
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        hint = NO_VOLUMES if is_volume(root.name) else LAYOUT
        raise FileNotFoundError(f"data.root={given} {kind} (resolved to {root.absolute()}); {hint}")


def _name_of(folder: Path) -> str:
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


def _split_by_roles(
    samples: Iterable[Sample], data: DataRecipe, roles: Roles, *, tested: Iterable[str], notes: list[str]
) -> Splits:
    parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for sample in samples:
        parts[roles.parts[sample.dataset, sample.stem]].append(sample)
    by_name = by_dataset(parts["test"])
    test = {name: by_name[name] for name in tested if name in by_name}
    val = parts["val"] if roles.has_val else None
    return finish(Parts(parts["train"], val, test, notes), data, share=data.validation)


def _split_at_random(
    samples: Iterable[Sample], data: DataRecipe, *, trained: list[str], tested: list[str], notes: list[str]
) -> Splits:
    """Cuts each data set that is trained on and tested by the fractions; one that is only tested is tested whole."""
    train: list[Sample] = []
    test: dict[str, list[Sample]] = {}
    by_name = by_dataset(samples)
    for name in dict.fromkeys([*trained, *tested]):
        mine = by_name.get(name, [])
        rest = mine if name in trained else []
        if name in tested:
            share = data.fractions[2] if name in trained else 1.0
            rest, test[name] = cut_test(mine, share=share, seed=data.seed) if share < 1 else ([], mine)
        train += rest
    ordered = {name: test[name] for name in tested if test[name]}
    training = data.fractions[0] + data.fractions[1]
    share = data.fractions[1] / training if training else 0.0
    return finish(Parts(train, None, ordered, notes), data, share=share)
