"""Data sets in folders: `images/` and `masks/` with one stem a pair, perhaps a file that groups them.

One data set:               Several:

    polyps/                     root/
      images/a.jpg ...            kvasir-seg/images/..., kvasir-seg/masks/...
      masks/a.png ...             cvc-clinicdb/images/..., .../masks/..., .../sequences.csv

The name of a data set is that of its folder.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from distill.data.images import SUFFIXES
from distill.data.pairs import Pair, examine
from distill.data.problems import Problems, nearest, several
from distill.data.sample import Sample, Splits
from distill.data.splits import Parts, cut_test, finish
from distill.data.tables import Roles, read_groups, read_roles
from distill.recipe import DataRecipe

LAYOUT = "expected images/ and masks/ in it (one data set), or folders that hold these (several)"


@dataclass(frozen=True)
class Listing:
    """The files of one data set by stem. Stems are in Unicode's composed form, as split files have them."""

    name: str
    images: dict[str, list[Path]]
    masks: dict[str, list[Path]]
    ignored: list[str]  # names of files that are no pictures


def open_folder(data: DataRecipe, *, home: Path) -> Splits:
    """Opens the data sets under `data.root` and splits them.

    With `data.split` its files decide, and a data set that they do not mention and that is tested is tested as a
    whole; without, `data.fractions` of each data set, at random by content. One that `data.whole` names is tested as a
    whole whatever the split says, and never trained on.

    Args:
        data: the data part of a recipe with `name: folder`.
        home: the folder that keeps the memo of what was looked at.

    Raises:
        FileNotFoundError: the root or the split is not there, or holds no data set.
        ValueError: files that cannot be used (unless `data.skip_bad`), or choices that do not fit together.
    """
    root, folders = find_data_sets(data.root)
    trained, tested = choose_data_sets(data, folders)
    problems = Problems(str(root))
    listings = {n: list_files(folders[n], name=n, problems=problems) for n in dict.fromkeys([*trained, *tested])}
    roles = None
    if data.split is not None:
        names = {name: {*listing.images, *listing.masks} for name, listing in listings.items()}
        known = {name: names.get(name) for name in folders}
        roles = read_roles(data, known, trained=trained, tested=tested, problems=problems)
    notes = _ignored(listings.values()) + (list(roles.notes) if roles else [])
    pairs: list[Pair] = []
    for name, listing in listings.items():
        stems = roles.stems(name) if roles else sorted({*listing.images, *listing.masks})
        groups = read_groups(folders[name], data.groups, listing.images, problems=problems)
        pairs += _pair(listing, stems, groups, problems=problems)
    samples, remarks = examine(pairs, home=home, problems=problems)
    notes += remarks + problems.settle(skip=data.skip_bad)
    if roles is None:
        return _split_at_random(samples, data, trained=trained, tested=tested, notes=notes)
    return _split_as_told(samples, data, roles, tested=tested, notes=notes)


def find_data_sets(given: str | None) -> tuple[Path, dict[str, Path]]:
    """The root and the folder of each data set in it, by name in alphabetical order."""
    if given is None:
        raise ValueError(f"data.name=folder needs data.root=FOLDER; {LAYOUT}")
    root = Path(given).expanduser()
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise FileNotFoundError(f"data.root={given} {kind} (looked at {root.absolute()}); {LAYOUT}")
    if (root / "images").is_dir():
        return root, {root.name if root.name not in ("", "..") else root.resolve().name: root}
    found = {path.name: path for path in sorted(root.iterdir()) if (path / "images").is_dir()}
    if not found:
        content = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(f"no data set in data.root={given}: {LAYOUT}, found {content}")
    return root, found


def choose_data_sets(data: DataRecipe, folders: Mapping[str, Path]) -> tuple[list[str], list[str]]:
    """The names of the data sets to train on, and of those to test on.

    Raises:
        ValueError: one that is not there, or one that is both trained on and in `data.whole`.
    """
    trained = _chosen(data.train, folders, option="data.train")
    tested = _chosen(data.test, folders, option="data.test")
    whole = _chosen(data.whole, folders, option="data.whole") if data.whole else []
    for name in whole:
        if name in data.train:
            raise ValueError(
                f"data.train and data.whole both name {name!r}, but a data set of which every image is tested must not "
                f"be trained on; take it out of one of them"
            )
    trained = [name for name in trained if name not in whole]
    if not trained:
        raise ValueError(
            f"data.whole names every data set under data.root ({', '.join(whole)}), so that none is left to train on; "
            f"take one out"
        )
    return trained, list(dict.fromkeys([*tested, *whole]))


def list_files(folder: Path, *, name: str, problems: Problems) -> Listing:
    """Lists the data set `name` in a folder; an absent or empty images/ or masks/ is a problem."""
    ignored: list[str] = []
    images, masks = (_by_stem(folder / part, ignored) for part in ("images", "masks"))
    for part, found in (("images", images), ("masks", masks)):
        if not (folder / part).is_dir():
            problems.add("missing folder", f"{name} has no folder {part}/; {LAYOUT}", fatal=True)
        elif not found:
            suffixes = " ".join(SUFFIXES)
            problems.add("empty folder", f"{name}/{part} holds no picture; expected files of {suffixes}", fatal=True)
    return Listing(name, images, masks, ignored)


def _by_stem(folder: Path, ignored: list[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(unicodedata.normalize("NFC", path.stem), []).append(path)
        else:
            ignored.append(f"{folder.name}/{path.name}")
    return found


def _chosen(asked: list[str], folders: Mapping[str, Path], *, option: str) -> list[str]:
    for name in asked:
        if name not in folders:
            raise ValueError(
                f"{option} names {name!r}, which is not under data.root; choose from {', '.join(folders)}"
                f"{nearest(name, folders)}"
            )
    return list(dict.fromkeys(asked)) or list(folders)


def _ignored(listings: Iterable[Listing]) -> list[str]:
    return [
        f"ignored {several(len(listing.ignored), 'file')} of {listing.name} without an image's suffix: "
        + ", ".join(listing.ignored[:3])
        + (", ..." if len(listing.ignored) > 3 else "")
        for listing in listings
        if listing.ignored
    ]


def _pair(listing: Listing, stems: Iterable[str], groups: Mapping[str, str], *, problems: Problems) -> list[Pair]:
    """The pairs of one data set; a stem with too many or too few files is a problem.

    A folder without a single picture was told of already; its missing counterparts are not told one by one.
    """
    pairs: list[Pair] = []
    for stem in stems if listing.images and listing.masks else ():
        images, masks = listing.images.get(stem, []), listing.masks.get(stem, [])
        if len(images) == len(masks) == 1:
            names = [f"{listing.name}/{path.parent.name}/{path.name}" for path in (images[0], masks[0])]
            pairs.append(Pair(listing.name, stem, groups.get(stem), images[0], masks[0], names[0], names[1]))
        else:
            _tell_unpaired(listing, stem, problems)
    return pairs


def _tell_unpaired(listing: Listing, stem: str, problems: Problems) -> None:
    name, images, masks = listing.name, listing.images.get(stem, []), listing.masks.get(stem, [])
    for part, files in (("images", images), ("masks", masks)):
        if len(files) > 1:
            rivals = " and ".join(path.name for path in files)
            sentence = f"{name}/{part} has {rivals} with one stem, so that the pair is not clear"
            problems.add("two files with one stem", f"{sentence}; rename or remove all but one")
    if not masks:
        lone = set() if problems.many else listing.masks.keys() - listing.images.keys()
        expected = f"{name}/masks/{stem}{images[0].suffix} (or another image suffix)"
        remedy = _namesake(stem, lone) or "; add it or remove the image"
        problems.add("missing mask", f"{name}/images/{images[0].name} has no mask; expected {expected}{remedy}")
    if not images:
        lone = set() if problems.many else listing.images.keys() - listing.masks.keys()
        expected = f"{name}/images/{stem} with an image suffix"
        remedy = _namesake(stem, lone) or "; add it or remove the mask"
        problems.add("missing image", f"{name}/masks/{masks[0].name} has no image; expected {expected}{remedy}")


def _namesake(stem: str, lone: Collection[str]) -> str:
    """A hint at the file without a partner that may be the missing one, as a3_mask for a3."""
    longer = sorted(other for other in lone if other.startswith(stem) or stem.startswith(other))
    return f"; did you mean {longer[0]!r}? rename it" if longer else nearest(stem, lone)


def _split_as_told(
    samples: Iterable[Sample], data: DataRecipe, roles: Roles, *, tested: Iterable[str], notes: list[str]
) -> Splits:
    parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for sample in samples:
        parts[roles.parts[sample.dataset, sample.stem]].append(sample)
    test = {name: [sample for sample in parts["test"] if sample.dataset == name] for name in tested}
    test = {name: part for name, part in test.items() if part}
    val = parts["val"] if roles.has_val else None
    return finish(Parts(parts["train"], val, test, notes), data, share=data.validation)


def _split_at_random(
    samples: Iterable[Sample], data: DataRecipe, *, trained: list[str], tested: list[str], notes: list[str]
) -> Splits:
    """Cuts each data set that is trained on and tested by the fractions; one that is only tested is tested whole."""
    train: list[Sample] = []
    test: dict[str, list[Sample]] = {}
    by_name = {name: [s for s in samples if s.dataset == name] for name in dict.fromkeys([*trained, *tested])}
    for name, mine in by_name.items():
        rest = mine if name in trained else []
        if name in tested:
            share = data.fractions[2] if name in trained else 1.0
            rest, test[name] = cut_test(mine, share=share, seed=data.seed) if share < 1 else ([], mine)
        train += rest
    ordered = {name: test[name] for name in tested if test[name]}
    training = data.fractions[0] + data.fractions[1]
    share = data.fractions[1] / training if training else 0.0
    return finish(Parts(train, None, ordered, notes), data, share=share)
