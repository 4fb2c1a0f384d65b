"""Data sets that the `datasets` library loads: a folder or file on this machine, or one on the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.config.schema import DataRecipe
from distill.data.image_io import encoded
from distill.data.mask_classes import Reading
from distill.data.part_names import PARTS, plain
from distill.data.sample import Sample, Splits
from distill.data.sources.data_sets import name_of
from distill.data.sources.pairs import Pair, examine
from distill.data.splits import Parts, cut_test, finish
from distill.runtime.issues import Problems, first_line, nearest

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Row:
    """One encoded picture in a table: a `Source`."""

    table: Dataset  # of one column that holds encoded pictures
    column: str
    index: int

    def read_bytes(self) -> bytes:
        """The encoded bytes, from the table or from the file that it points to.

        Raises:
            ValueError: the cell is empty.
            OSError: the file is not there.
        """
        cell = self.table[self.index][self.column]
        if cell is None or (cell["bytes"] is None and not cell["path"]):
            raise ValueError("is an empty cell; give every row an image and a mask")
        content: bytes = cell["bytes"] if cell["bytes"] is not None else encoded(Path(cell["path"]))
        return content


def open_hub(data: DataRecipe, *, home: Path, reading: Reading) -> Splits:
    """Opens what `data.root` names and splits it.

    Splits named train, validation (or val, valid, dev) and test are used as they are; without a test split, or with one
    split of any name, `data.fractions` at random by content; without validation, `data.validation` of train. A column
    named as `data.groups` keeps groups together.

    Args:
        data: the data part of a recipe with `name: datasets`.
        home: the folder that keeps the file index, and tables converted from local files.
        reading: how masks are read.

    Raises:
        FileNotFoundError: neither a path nor a data set that can be loaded.
        ValueError: a column is missing, splits have unknown names, or rows cannot be used (unless `data.skip_bad`).
    """
    if data.root is None:
        raise ValueError("data.name=datasets needs data.root: a folder, a parquet file or a hub id such as user/name")
    place = Path(data.root).expanduser()
    name = place.stem if place.is_file() else name_of(place)
    _refuse_choices(data, name=name)
    tables = load_tables(data.root, home=home)
    parts = name_parts(list(tables), root=data.root)
    problems = Problems(data.root)
    pairs: list[Pair] = []
    for split, table in tables.items():
        pairs += list_rows(table, data, name=name, split=split)
    if not pairs:
        raise ValueError(f"data.root={data.root} has no rows; expected rows of an image and its mask")
    samples, notes = examine(pairs, home=home, problems=problems, reading=reading)
    notes += problems.settle(skip=data.skip_bad)
    by_part: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for sample in samples:
        by_part[parts[sample.stem.rpartition("-")[0]]].append(sample)
    return _split(by_part, data, name=name, given=set(parts.values()), notes=notes)


def load_tables(root: str, *, home: Path) -> dict[str, Dataset]:
    """Loads every split of a local path or a hub id.

    Args:
        root: a folder written by `save_to_disk`, a folder that `load_dataset` understands (parquet, imagefolder), a
            parquet file, or a hub id.
        home: local files are converted once into `home/datasets`; the hub's own cache stays where it is.

    Raises:
        FileNotFoundError: it cannot be loaded; the message holds the library's reason.
    """
    import datasets

    path = Path(root).expanduser()
    if not path.exists() and (root.startswith((".", "/", "~")) or root.count("/") != 1 or path.suffix == ".parquet"):
        raise FileNotFoundError(
            f"data.root={root} does not exist (resolved to {path.absolute()}); expected a folder, a parquet file, or a "
            f"hub id such as user/name"
        )
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        elif path.is_file():
            loaded = datasets.load_dataset("parquet", data_files=str(path), cache_dir=str(home / "datasets"))
        elif path.is_dir():
            loaded = datasets.load_dataset(str(path.absolute()), cache_dir=str(home / "datasets"))
        else:
            loaded = datasets.load_dataset(root)
    except Exception as error:  # the library and its transports raise many unrelated types
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise FileNotFoundError(_not_loaded(root, local=path.exists(), reason=reason)) from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def name_parts(splits: list[str], *, root: str) -> dict[str, str]:
    """The part that each split is; a single split is training whatever its name, to be cut further."""
    if len(splits) == 1:
        return {splits[0]: "train"}
    unknown = [split for split in splits if plain(split) not in PARTS]
    if unknown:
        raise ValueError(
            f"data.root={root} has splits {', '.join(splits)}; expected train, validation and test, or a single one; "
            f"rename {', '.join(unknown)}"
        )
    return {split: PARTS[plain(split)] for split in splits}


def list_rows(table: Dataset, data: DataRecipe, *, name: str, split: str) -> list[Pair]:
    """The rows of one split as pairs, nothing decoded yet.

    Raises:
        ValueError: a column is missing or holds no pictures.
    """
    images = _pictures(table, data.image_column, option="image_column", where=f"split {split} of {name}")
    masks = _pictures(table, data.mask_column, option="mask_column", where=f"split {split} of {name}")
    groups: list[Any] = [None] * len(table)
    if data.groups and data.groups in table.column_names:
        groups = list(table.select_columns([data.groups])[data.groups])
    elif data.names_groups:
        raise ValueError(
            f"split {split} of {name} has no column {data.groups!r}, which data.groups names; it has "
            f"{', '.join(table.column_names)}"
        )
    where = f"{name}: row {{}} of {split}, column {{}},"
    return [
        Pair(
            dataset=name,
            stem=f"{split}-{index:06d}",
            group=None if group is None else str(group),
            image=Row(images, data.image_column, index),
            mask=Row(masks, data.mask_column, index),
            names=(where.format(index, data.image_column), where.format(index, data.mask_column)),
        )
        for index, group in enumerate(groups)
    ]


def _pictures(table: Dataset, column: str, *, option: str, where: str) -> Dataset:
    """The table's one column, giving encoded bytes or paths instead of decoded pictures."""
    from datasets import Image

    if column not in table.column_names:
        raise ValueError(
            f"{where} has no column {column!r}, it has {', '.join(table.column_names)}; set data.{option}"
            f"{nearest(column, table.column_names)}"
        )
    try:
        return table.select_columns([column]).cast_column(column, Image(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:
        found = table.features[column]
        raise ValueError(
            f"column {column!r} of {where} holds {found}, but must hold pictures (encoded bytes or paths); set "
            f"data.{option}"
        ) from error


def _split(parts: dict[str, list[Sample]], data: DataRecipe, *, name: str, given: set[str], notes: list[str]) -> Splits:
    train, val, test = parts["train"], parts["val"] if "val" in given else None, parts["test"]
    share = data.validation
    if "test" not in given:
        training, validation, testing = data.fractions
        rest = training + testing + (validation if val is None else 0.0)
        train, test = cut_test(train, share=testing / rest if rest else 0.0, seed=data.seed)
        share = validation / (training + validation) if training + validation else 0.0
    return finish(Parts(train, val, {name: test} if test else {}, notes), data, share=share)


def _refuse_choices(data: DataRecipe, *, name: str) -> None:
    """Other data sets than the one that there is."""
    for option, asked in (("train", data.train), ("test", data.test)):
        if asked and asked != [name]:
            raise ValueError(
                f"data.{option} is {asked}, but data.name=datasets opens one data set, {name}; take it out"
            )


def _not_loaded(root: str, *, local: bool, reason: str) -> str:
    if local:
        return (
            f"the datasets library cannot load data.root={root} ({reason}); expected a folder of save_to_disk, parquet "
            f"files, or an imagefolder with metadata.csv (columns file_name, mask_file_name)"
        )
    return (
        f"data.root={root} is no path here and cannot be loaded from the hub ({reason}); check the name and the "
        f"network, or fetch it elsewhere with 'hf download {root} --repo-type dataset --local-dir DIR' and give "
        f"data.root=DIR"
    )
