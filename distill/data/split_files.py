"""Split files and group files: the part of each image, and the images that belong together."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.config.schema import DataRecipe
from distill.data.file_names import first_names
from distill.data.image_io import SUFFIXES
from distill.runtime.issues import Problems, nearest, several

Name = tuple[str, str]  # data set, stem


@dataclass(frozen=True)
class Roles:
    """The part of each image, from split files."""

    parts: dict[Name, str]  # -> train, val or test
    has_val: bool
    notes: tuple[str, ...]

    def stems(self, dataset: str) -> list[str]:
        """The stems of one data set that have a part, in alphabetical order."""
        return sorted(stem for name, stem in self.parts if name == dataset)


def read_roles(
    data: DataRecipe,
    stems: Mapping[str, set[str] | None],
    *,
    trained: Sequence[str],
    tested: Sequence[str],
    problems: Problems,
) -> Roles:
    """Reads train.csv, test.csv and, if there is one, val.csv of `data.split`.

    Args:
        data: the data part of the recipe. Rows of data sets in `data.test_only` are skipped.
        stems: the stems of each data set under the root; None if the data set was not chosen.
        trained: data sets to train on; rows of others in train.csv and val.csv are skipped.
        tested: data sets to test on; rows of others in test.csv are skipped.
        problems: receives rows that fit no image.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file lacks its columns, or trains on a data set in `data.test_only`.
    """
    tables = _read_tables(Path(data.split or "").expanduser(), sets=list(stems))
    tables = _pass_over_whole(tables, data, trained=trained)
    _forbid_repetition(tables, problems)
    parts: dict[Name, str] = {}
    for part, rows in tables.items():
        asked, chosen = (data.test, tested) if part == "test" else (data.train, trained)
        if not asked:
            _forbid_absent(part, rows, stems, problems)
        for name, stem in rows:
            if name in chosen and stem in (stems[name] or ()):
                parts.setdefault((name, stem), part)
            elif name in chosen and stems[name]:  # an empty data set is a problem already
                hint = "" if problems.many else _hint(stem, stems[name] or ())
                sentence = f"{part}.csv names {name},{stem}, but {name}/images has no such file{hint}"
                problems.add("unknown stem", sentence)
    notes = _test_whole(parts, tables["test"], stems, tested=tested, asked=data.test_only)
    _require_rows(data, parts, problems)
    mentioned = {row for rows in tables.values() for row in rows} | set(parts)
    for name in dict.fromkeys([*trained, *tested]):
        found = stems[name] or set()
        unused = sum((name, stem) not in mentioned for stem in found)
        if unused:
            notes.append(f"{unused} of {several(len(found), 'image')} of {name} are in no split file and are not used")
    return Roles(parts, "val" in tables, tuple(notes))


def read_groups(folder: Path, name: str | None, stems: Iterable[str], *, problems: Problems) -> dict[str, str]:
    """Reads a data set's group file: the group of each stem; empty if there is no such file.

    Args:
        folder: of the data set.
        name: of the file, with columns stem and group, or stem and one other; None: no groups.
        stems: the stems of the data set. A file that has none of them is a problem.
        problems: receives what is wrong.

    Raises:
        ValueError: the file lacks its columns, or has several that may be the group.
    """
    if not name or not (folder / name).exists():
        return {}
    columns, rows = _read_rows(folder / name)
    others = ["group"] if "group" in columns else [column for column in columns if column != "stem"]
    if "stem" not in columns or len(others) != 1:
        raise ValueError(f"{folder / name} has columns {', '.join(columns)}; expected stem and group")
    groups: dict[str, str] = {}
    for row in rows:
        stem, group = _composed(row["stem"]), row[others[0]].strip()
        if groups.setdefault(stem, group) != group:
            problems.add(
                "group file",
                f"{folder / name} puts {stem} into {groups[stem]!r} and into {group!r}; keep one of the lines",
                fatal=True,
            )
    stems = list(stems)
    if stems and groups and not groups.keys() & set(stems):
        problems.add(
            "group file",
            f"{folder / name} knows no stem of the images beside it (it has {next(iter(groups))!r}, there is "
            f"{stems[0]!r}); write stems without suffix, or set data.groups=null",
            fatal=True,
        )
    return {stem: group for stem, group in groups.items() if group}


def _pass_over_whole(
    tables: Mapping[str, list[Name]], data: DataRecipe, *, trained: Sequence[str]
) -> dict[str, list[Name]]:
    """The tables without the rows of data sets in `data.test_only`.

    With `data.train` the user skips them knowingly; without it, the split would train or validate on test images.
    """
    for part in ("train", "val") if not data.train else ():
        for name, count in Counter(name for name, _ in tables.get(part, []) if name in data.test_only).items():
            raise ValueError(
                f"data.test_only names {name!r}, but {part}.csv has {several(count, 'row')} of it; all its images are "
                f"tested, so name the data sets to train on by data.train=[{','.join(trained)}]"
            )
    return {part: [row for row in rows if row[0] not in data.test_only] for part, rows in tables.items()}


def _test_whole(
    parts: dict[Name, str],
    rows: list[Name],
    stems: Mapping[str, set[str] | None],
    *,
    tested: Sequence[str],
    asked: Collection[str],
) -> list[str]:
    """Adds to the test part all images of each test data set that no split file mentions.

    The data sets of `data.test_only` (`asked`) have no rows left that could mention them.
    """
    mentioned = {name for name, _ in rows} | {name for name, _ in parts}
    whole = [name for name in tested if name not in mentioned]
    for name in whole:
        parts.update({(name, stem): "test" for stem in stems[name] or ()})
    return [
        (
            f"data.test_only names {name}"
            if name in asked
            else f"test.csv does not mention {name} and it is not trained on"
        )
        + f": all its {len(stems[name] or ())} images are tested"
        for name in whole
    ]


def _forbid_absent(part: str, rows: Iterable[Name], stems: Mapping[str, set[str] | None], problems: Problems) -> None:
    """Reports rows of data sets that are not under the root; data.train or data.test must exclude them."""
    option = "test" if part == "test" else "train"
    for name, count in Counter(name for name, _ in rows if name not in stems).items():
        problems.add(
            "unknown data set",
            f"{part}.csv names data set {name!r} ({several(count, 'row')}), which is not under data.root; "
            f"choose by data.{option}=[{','.join(stems)}]{nearest(name, stems)}",
            fatal=True,
        )


def _require_rows(data: DataRecipe, parts: Mapping[Name, str], problems: Problems) -> None:
    """Reports data sets that the recipe names for a part in which they have no images."""
    for option, asked, part in (("train", data.train, "train"), ("test", data.test, "test")):
        for name in asked:
            if not any(dataset == name and found == part for (dataset, _), found in parts.items()):
                problems.add(
                    "no rows",
                    f"data.{option} names {name}, but {part}.csv has no row for it; add rows or take it out",
                    fatal=True,
                )


def _read_tables(folder: Path, *, sets: Sequence[str]) -> dict[str, list[Name]]:
    if not (folder / "train.csv").is_file() or not (folder / "test.csv").is_file():
        found = first_names(folder.iterdir()) if folder.is_dir() else "no such folder"
        raise FileNotFoundError(f"expected train.csv and test.csv in data.split={folder}, found {found}")
    present = [part for part in ("train", "val", "test") if (folder / f"{part}.csv").exists()]
    return {part: _read_names(folder / f"{part}.csv", sets=sets) for part in present}


def _read_names(path: Path, *, sets: Sequence[str]) -> list[Name]:
    columns, rows = _read_rows(path)
    if "stem" not in columns or ("dataset" not in columns and len(sets) > 1):
        wanted = "stem" if len(sets) == 1 else "dataset,stem (data.root holds several data sets)"
        raise ValueError(f"{path} has columns {', '.join(columns) or '(none)'}; expected {wanted}")
    return [(row.get("dataset", sets[0]).strip(), _composed(row["stem"])) for row in rows]


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="", skipinitialspace=True)
            return list(reader.fieldnames or []), list(reader)
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        raise ValueError(f"{path} cannot be read as a table ({error}); save it as CSV in UTF-8") from error


def _hint(stem: str, stems: Collection[str]) -> str:
    short, dot, suffix = stem.rpartition(".")
    if short in stems and dot + suffix.lower() in SUFFIXES:
        return f"; write {short} without suffix"
    return nearest(stem, stems) or "; correct the row or remove it"


def _composed(stem: str) -> str:
    return unicodedata.normalize("NFC", stem.strip())


def _forbid_repetition(tables: Mapping[str, list[Name]], problems: Problems) -> None:
    first: dict[Name, str] = {}
    for part, rows in tables.items():
        for row in rows:
            if first.get(row) == part:
                sentence = f"{part}.csv names {','.join(row)} twice; remove one row"
                problems.add("repeated row", sentence, fatal=True)
            elif row in first:
                sentence = f"{','.join(row)} is in both {first[row]}.csv and {part}.csv; remove it from one of them"
                problems.add("row in two parts", sentence, fatal=True)
            first.setdefault(row, part)
