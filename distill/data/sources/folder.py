"""Data sets in folders: `images/` and `masks/` with one stem a pair, perhaps a file that groups them.

One data set:               Several:

    polyps/                     root/
      images/a.jpg ...            kvasir-seg/images/..., kvasir-seg/masks/...
      masks/a.png ...             cvc-clinicdb/images/..., .../masks/..., .../sequences.csv

The name of a data set is that of its folder. Other names of folders that are in use, and masks called after their
images, are known (`distill.data.sources.folder_names`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.config.schema import DataRecipe
from distill.data.mask_classes import Reading
from distill.data.sample import Sample, Splits, by_dataset
from distill.data.sources.data_sets import Found, choose_data_sets, find_data_sets
from distill.data.sources.known import known_sequences
from distill.data.sources.known_layouts import find_named
from distill.data.sources.listing import Listing, list_files, pair
from distill.data.sources.pairs import Pair, examine
from distill.data.split_files import Roles, read_groups, read_roles
from distill.data.splits import Parts, cut_test, finish
from distill.runtime.issues import Problems, several


def open_folder(data: DataRecipe, *, home: Path, reading: Reading) -> Splits:
    """Opens the data sets under `data.root`, or the public one of the name `data.name` there, and splits them.

    With `data.split` its files decide, and a data set that they do not mention and that is tested is tested as a
    whole; without, `data.fractions` of each data set, at random by content. One that `data.test_only` names is tested
    as a whole whatever the split says, and never trained on.

    Args:
        data: the data part of a recipe.
        home: the folder that keeps the file index.
        reading: how masks are read.

    Raises:
        FileNotFoundError: the root or the split is not there, or holds no data set.
        ValueError: files that cannot be used (unless `data.skip_bad`), or choices that do not fit together.
    """
    found = find_data(data)
    trained, tested = choose_data_sets(data, found.places)
    problems = Problems(str(found.root))
    inventory = take_inventory(found, data, trained=trained, tested=tested, problems=problems)
    samples, said = examine(inventory.pairs, home=home, problems=problems, reading=reading)
    notes = [*found.notes, *inventory.notes, *said, *problems.settle(skip=data.skip_bad)]
    if inventory.roles is None:
        return _split_at_random(samples, data, trained=trained, tested=tested, notes=notes)
    return _split_by_roles(samples, data, inventory.roles, tested=tested, notes=notes)


def find_data(data: DataRecipe) -> Found:
    """The data sets that a recipe means, and their folders; errors as of `open_folder`."""
    return find_data_sets(data.root) if data.name == "folder" else find_named(data)


@dataclass(frozen=True)
class Inventory:
    """The pairs of the chosen data sets before they are read, and which part each is in."""

    pairs: list[Pair]
    roles: Roles | None  # None: no split was given
    notes: list[str]


def take_inventory(
    found: Found, data: DataRecipe, *, trained: Sequence[str], tested: Sequence[str], problems: Problems
) -> Inventory:
    """Lists and pairs the files of the chosen data sets; what is wrong with names and tables becomes a problem."""
    chosen = list(dict.fromkeys([*trained, *tested]))
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
                f"taken for one of its own{unmatched(groups, listing.stems)}"
            )
        pairs += pair(listing, stems, groups, problems=problems)
    return Inventory(pairs, roles, list(dict.fromkeys(notes)))


def unmatched(groups: Mapping[str, str], stems: Collection[str]) -> str:
    """Words on the stems that a group file names and that no image has; nothing where there are none."""
    names = sorted(groups.keys() - set(stems))
    return f"; {len(names)} of those that have a group are no image, as {names[0]!r}" if names else ""


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
