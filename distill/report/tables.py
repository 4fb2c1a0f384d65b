"""The figures of metrics.json as table rows: every figure with its interval and its convention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.metrics.aggregate import SIZES
from distill.metrics.names import CONFIDENCE, CONTOUR, DICE, FRAMES, OVERLAP, SALIENCY, Figure
from distill.metrics.overlap import THRESHOLD
from distill.metrics.per_image import TOLERANCE
from distill.metrics.table import BY_SIZE

GROUPS = {"Dice, by convention": DICE, "Overlap": OVERLAP, "Contour": CONTOUR, "Saliency": SALIENCY}
PIXELS = ("hd95", "average_surface_distance")  # not in [0, 1]
SIDE_BY_SIDE = ("dice", "iou", "sensitivity", "precision", "surface_dice", "hd95")


@dataclass(frozen=True)
class Cell:
    """A mean and its 95 % interval as text; empty if not measured, the interval also if there are too few images."""

    mean: str = ""
    interval: str = ""


@dataclass(frozen=True)
class Line:
    """One figure on every data set."""

    title: str
    convention: str
    cells: tuple[Cell, ...]


def cell(entry: Mapping[str, float] | None, *, digits: int = 3) -> Cell:
    """A figure's mean and interval."""
    if entry is None:
        return Cell()
    interval = f"{entry['low']:.{digits}f}–{entry['high']:.{digits}f}" if "low" in entry else ""
    return Cell(f"{entry['mean']:.{digits}f}", interval)


def words(figure: Figure) -> Figure:
    """A figure with the threshold and the tolerance filled in to its title and convention."""
    chosen = {"threshold": f"{THRESHOLD:g}", "tolerance": f"{TOLERANCE:g}"}
    return Figure(figure.title.format(**chosen), figure.convention.format(**chosen))


def results(metrics: Mapping[str, Any]) -> dict[str, list[Line]]:
    """The lines of each group of figures: one for each figure that any data set has."""
    entries = list(metrics["datasets"].values())
    if not any("dice_pooled" in entry for entry in entries):  # several classes, or an evaluation of an older version
        plain = {"dice": Figure("Dice", metrics["convention"]), "iou": Figure("IoU", metrics["convention"])}
        return {"Overlap": list(lines(plain, entries))}
    groups = {head: list(lines(figures, entries)) for head, figures in GROUPS.items()}
    empty = [entry["empty_masks"] if entry.get("empty_masks", {}).get("images") else {} for entry in entries]
    groups["Frames without foreground"] = list(lines(FRAMES, empty))
    groups["Confidence"] = list(lines(CONFIDENCE, [entry.get("confidence", {}) for entry in entries]))
    return {head: found for head, found in groups.items() if found}


def lines(figures: Mapping[str, Figure], entries: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    """A line for each figure that any entry (one a data set) has."""
    for name, figure in figures.items():
        if any(name in entry for entry in entries):
            named = words(figure)
            cells = tuple(cell(entry.get(name), digits=digits_of(name)) for entry in entries)
            yield Line(named.title, named.convention, cells)


Part = tuple[str, str, int, tuple[Cell, ...]]  # data set, what part of it, images, a cell for each of BY_SIZE


def parts(metrics: Mapping[str, Any], entry: str, words_of: Callable[[str], str]) -> list[Part]:
    """The rows of an entry {part: figures} of every data set, such as `by_size`; empty if no data set has it."""
    return [
        (name, words_of(part), group["images"], tuple(cell(group[key], digits=digits_of(key)) for key in BY_SIZE))
        for name, figures in metrics["datasets"].items()
        for part, group in figures.get(entry, {}).items()
    ]


def size_words(size: str) -> str:
    """`small, to 5 %`, `medium, 5 to 15 %`, `large, over 15 %`."""
    names, ends = list(SIZES), [0.0, *SIZES.values()]
    low, high = (f"{100 * ends[names.index(size) + step]:g}" for step in (0, 1))
    if low == "0":
        return f"{size}, to {high} %"
    return f"{size}, {low} to {high} %" if high != "100" else f"{size}, over {low} %"


def titles(names: Sequence[str]) -> list[str]:
    """Short column heads."""
    every = {**DICE, **OVERLAP, **CONTOUR}
    return ["Dice" if name == "dice" else words(every[name]).title for name in names]


def digits_of(name: str) -> int:
    """The number of decimals with which a figure is shown."""
    return 1 if name in PIXELS else 3


@dataclass(frozen=True)
class Beside:
    """A teacher and the student on the same images."""

    part: str
    images: int
    of: int
    teacher: tuple[Cell, ...]
    student: tuple[Cell, ...]
    agreement: Cell  # Dice of the student's mask against the teacher's


def teachers(metrics: Mapping[str, Any]) -> dict[str, list[Beside]]:
    """An entry of each mask teacher for each part of the data whose soft masks are known."""
    return {
        name: [
            Beside(
                part,
                entry["images"],
                entry["of"],
                side(entry["teacher"]),
                side(entry["student"]),
                cell(entry["agreement"]["dice"]),
            )
            for part, entry in known.items()
        ]
        for name, known in metrics.get("teachers", {}).items()
    }


def side(entry: Mapping[str, Any]) -> tuple[Cell, ...]:
    """The figures of the teacher or of the student, in the order of `SIDE_BY_SIDE`."""
    return tuple(cell(entry.get(name), digits=digits_of(name)) for name in SIDE_BY_SIDE)
