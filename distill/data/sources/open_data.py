"""Data sets: where images and masks come from, and how they are split."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

from distill.config.registry import DATASETS
from distill.config.schema import DataRecipe
from distill.data.mask_classes import Reading
from distill.data.sample import Splits
from distill.data.sample_table import in_file
from distill.data.sources.unlabelled import join_pictures, list_pictures, parse_labels, withhold_labels
from distill.data.splits import parse_fold
from distill.runtime.collector import without_collector

OF_FOLDERS = {"builtin": ("train", "test", "split", "fold", "test_only"), "datasets": ("split", "test_only")}  # keys


@without_collector()
def open_data(data: DataRecipe, *, home: Path, classes: int = 1) -> Splits:
    """Opens the data a recipe asks for and splits it; then masks are put away and further images join, if asked.

    Every file is read and decoded once, so that a bad one is named now and not after an hour of training; what was
    found is kept in `home/file_index.table`. Very many samples are not kept in memory (`distill.data.sample_table`).

    Args:
        data: the data part of a recipe. `data.name` is one of `distill.config.registry.DATASETS`.
        home: the folder for artefacts; created if need be.
        classes: `student.classes`: from 2 on, masks hold class numbers.

    Raises:
        ValueError: data that cannot be used; the message names every file and what to do.
        FileNotFoundError: a root, split or file that is not there.
    """
    for key in OF_FOLDERS.get(data.name, ()):
        if getattr(data, key):
            raise ValueError(f"data.{key} is for data.name=folder, but data.name is {data.name}; take data.{key} out")
    reading = Reading(classes, tuple(data.colours))
    if data.fold is not None:
        parse_fold(data.fold)  # before an hour of looking at files
    parse_labels(data.labels)
    pictures = list_pictures(data.unlabelled) if data.unlabelled else None
    splits: Splits = resolve_name(DATASETS[data.name])(data, home=home, reading=reading)
    splits = withhold_labels(splits, data)
    return in_file(splits if pictures is None else join_pictures(splits, pictures, data, home=home))
