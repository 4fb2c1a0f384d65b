"""The best, median and worst test images of every data set, chosen by the rank of their Dice and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distill.data.sample import Sample
from distill.evaluation.soft_masks import SoftMasks
from distill.metrics.overlap import IGNORED, foreground_of, labels
from distill.report import thumbnails
from distill.report.inputs import Inputs, Row, share_of

SHOWN = 24  # images over all data sets, the most for up to eight data sets
EACH = 3  # of each kind
ALARMS = 1  # of a data set: frames without foreground in which something is predicted

Ask = Callable[[Sample], np.ndarray]  # a sample -> the student's probability (K, H, W)


@dataclass(frozen=True)
class Tile:
    """One picture of a case: its title, its data URI, and an alternative text."""

    title: str
    uri: str
    alt: str
    size: tuple[int, int]  # of the image: height, width


@dataclass(frozen=True)
class Case:
    """One test image with its rank, its figures and its pictures."""

    kind: str  # best, median, worst, false alarm
    row: Row
    rank: int  # among the images with foreground, counted from 1; 0 for a false alarm
    images: int  # with foreground
    share: float
    tiles: tuple[Tile, ...]


def cases(inputs: Inputs, ask: Ask, masks: Mapping[str, SoftMasks]) -> dict[str, list[Case]]:
    """The cases of each data set, best first.

    Args:
        inputs: the run.
        ask: returns the student's probability for a sample.
        masks: mask teachers, whose soft masks are shown where they are known.
    """
    each = max(1, min(EACH, SHOWN // (3 * max(1, len(inputs.rows)))))
    found: dict[str, list[Case]] = {}
    for name, rows in inputs.rows.items():
        shares = {row.sample.key: share_of(row) for row in rows}
        ranked = sorted((row for row in rows if shares[row.sample.key]), key=lambda row: (-row.dice, row.sample.stem))
        chosen = [(kind, ranked[place], place + 1) for kind, place in places(len(ranked), each)]
        alarms = [row for row in rows if not shares[row.sample.key] and row.dice < 1]
        chosen += [("false alarm", row, 0) for row in sorted(alarms, key=lambda row: row.sample.key)[:ALARMS]]
        found[name] = [
            Case(kind, row, rank, len(ranked), shares[row.sample.key], pictures(row, ask, masks))
            for kind, row, rank in chosen
        ]
    return found


def places(images: int, each: int) -> list[tuple[str, int]]:
    """Kind and place of the cases among `images` ranked images: no place twice, at most a third of them per kind."""
    each = max(1, min(each, images // 3))
    middle = max(0, (images - each) // 2)
    wanted = {
        "best": range(min(each, images)),
        "median": range(middle, min(middle + each, images)),
        "worst": range(max(0, images - each), images),
    }
    taken: set[int] = set()
    chosen: list[tuple[str, int]] = []
    for kind in ("best", "worst", "median"):
        mine = [place for place in wanted[kind] if place not in taken]
        taken.update(mine)
        chosen += [(kind, place) for place in mine]
    return sorted(chosen, key=lambda item: item[1])


def pictures(row: Row, ask: Ask, masks: Mapping[str, SoftMasks]) -> tuple[Tile, ...]:
    """The pictures of one image."""
    sample = row.sample
    image, truth, probability = sample.read_image(), sample.read_mask(), ask(sample)
    found = labels(probability)
    name = f"{sample.dataset} {sample.stem}"
    foreground = foreground_of(probability)
    true, counted = (truth > 0) & (truth != IGNORED), truth != IGNORED

    def tile(title: str, uri: str, alt: str) -> Tile:
        return Tile(title, uri, alt, (image.shape[0], image.shape[1]))

    wrong = (
        f"false positive {np.mean((found > 0) & ~true & counted):.1%} of the image, "
        f"missed {np.mean(true & (found == 0)):.1%}"
    )
    shown = [
        tile("contours", thumbnails.contours_tile(image, true, found > 0), f"{name}: true and predicted contours"),
        tile("image", thumbnails.image_tile(image), f"{name}: the image"),
        tile("truth", thumbnails.mask_tile(truth), f"{name}: the true mask, {np.mean(true):.1%} of the image"),
        tile("student", thumbnails.probability_tile(foreground), f"{name}: the student's probability of foreground"),
    ]
    if len(probability) > 1:
        shown[-1] = tile("student", thumbnails.mask_tile(found), f"{name}: the class that the student predicts")
    for teacher, known in masks.items():
        if known.has(sample):
            soft = foreground_of(known.probability(sample))
            shown.append(
                tile(f"teacher ({teacher})", thumbnails.probability_tile(soft), f"{name}: the soft mask of {teacher}")
            )
    return (*shown, tile("errors", thumbnails.errors_tile(image, truth, found), f"{name}: {wrong}"))


def has_soft_masks(found: Mapping[str, Sequence[Case]]) -> bool:
    """Whether any case shows a teacher's soft mask."""
    return any(tile.title.startswith("teacher") for part in found.values() for case in part for tile in case.tiles)
