"""`distill evaluate predictions=DIR masks=DIR`: scores any folder of predictions, in every convention."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from distill.config.parse import number, own_words, truth
from distill.evaluation.folder_pairs import mask_threshold, pair, prediction_scale, read_entries, settle
from distill.metrics.aggregate import SIZES, summarise_empty, summarise_set, summarise_sizes
from distill.metrics.names import conventions
from distill.metrics.overlap import THRESHOLD
from distill.metrics.per_image import TOLERANCE, ImageScore, score_everything
from distill.metrics.table import text
from distill.runtime.io import write_json
from distill.runtime.issues import several
from distill.runtime.progress import progress

USAGE = """distill evaluate predictions=DIR masks=DIR [out=FILE.json] [key=value ...]

  predictions=, masks=   two folders of pictures, paired by stem; a mask is foreground from level 128 (or 1) on
  out=FILE.json          every figure of every image
  bootstrap=2000         resamples of the 95 % intervals
  threshold=0.5          from which probability on a pixel is foreground
  tolerance=2            pixels: surface Dice counts a contour as met where the other is at most so far away
  skip_bad=true          go on without files that cannot be paired or read"""

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Request:
    """What is to be scored, and how."""

    predictions: Path
    masks: Path
    out: Path | None = None
    bootstrap: int = 2000
    threshold: float = THRESHOLD
    tolerance: float = TOLERANCE
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.bootstrap < 1:
            raise ValueError(f"bootstrap is {self.bootstrap}, but must be at least 1 resample")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold:g}, but must lie over 0 and up to 1")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance is {self.tolerance:g} pixels, but must not be negative")
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"out={self.out} is a folder; name a file, as out={self.out / 'scores.json'}")


def score_folders(request: Request) -> dict[str, Any]:
    """Scores a folder of predictions against a folder of masks.

    Files are paired by stem. Grey values over 255 are probabilities; where no prediction passes level 1, they are
    taken as masks of 0 and 1. Masks are foreground from level 128 on, or from 1 where none of them passes 1. A
    prediction of another size than its mask is resized to it.

    Returns:
        {"images", "resized", "level_of_one", "left_out", "threshold", "tolerance", "conventions", "mean": {figure:
        {"mean", "low", "high"}}, "by_size": {size: {"images", figure: ...}}, "size_limits", "empty_masks": {"images",
        ...}, "per_image": {stem: {figure: value}}}

    Raises:
        FileNotFoundError: a folder is not there.
        ValueError: files that cannot be paired or read (unless `skip_bad`), or masks of several classes.
    """
    entries, left_out = pair(request.predictions, request.masks, skip_bad=request.skip_bad)
    scores: dict[str, ImageScore] = {}
    resized = 0
    threshold = mask_threshold([entry.mask for entry in entries])
    scale = prediction_scale([entry.prediction for entry in entries])
    readings = progress(read_entries(entries, threshold=threshold, scale=scale), what="score", total=len(entries))
    for entry, reading in zip(entries, readings, strict=True):
        if isinstance(reading, str):
            left_out.append(reading)
            continue
        resized += reading.resized
        scores[entry.stem] = score_everything(
            reading.probability, reading.mask, threshold=request.threshold, tolerance=request.tolerance
        )
    settle(left_out, skip_bad=request.skip_bad)
    if not scores:
        raise ValueError(f"none of {several(len(entries), 'pair')} can be read; the first: {left_out[-len(entries)]}")
    every = list(scores.values())
    return {
        "images": len(scores),
        "resized": resized,
        "level_of_one": scale,
        "left_out": left_out,
        "threshold": request.threshold,
        "tolerance": request.tolerance,
        "conventions": conventions(threshold=request.threshold, tolerance=request.tolerance),
        "mean": summarise_set(every, resamples=request.bootstrap),
        "by_size": summarise_sizes(every, resamples=request.bootstrap),
        "size_limits": SIZES,
        "empty_masks": summarise_empty(every, resamples=request.bootstrap),
        "per_image": {stem: per_image(score) for stem, score in scores.items()},
    }


def per_image(score: ImageScore) -> dict[str, float]:
    """One image's entry: its figures, counts of pixels, and the share of the image that its mask covers."""
    return {**score.figures, **dict(zip(("tp", "fp", "fn", "tn"), score.counts, strict=True)), "share": score.share}


def notes(result: dict[str, Any]) -> list[str]:
    """What one should know before reading the tables."""
    said = [f"scored {several(result['images'], 'image')}, each at its mask's size"]
    if result["resized"]:
        said.append(
            f"{several(result['resized'], 'prediction')} had another size and "
            f"{'was' if result['resized'] == 1 else 'were'} resized to the mask (bilinear, antialiased)"
        )
    if result["level_of_one"] == 1:
        said.append("no prediction passes level 1, so that level 1 is taken as a probability of 1")
    if result["left_out"]:
        said.append(f"left out {several(len(result['left_out']), 'file')}: {result['left_out'][0]}")
    if empty := result["empty_masks"]["images"]:
        said.append(
            f"{several(empty, 'mask')} {'is' if empty == 1 else 'are'} empty: at a threshold an empty prediction of it "
            "scores 1, but 0 in PraNet's figures and the weighted F-measure"
        )
    return said


def read_request(words: Sequence[str]) -> Request:
    """The request of a command line's `key=value` words.

    Raises:
        ValueError: wrong words (`own_words`), or a value of the wrong kind.
    """
    known = [field.name for field in fields(Request)]
    given = own_words(words, known, usage=USAGE, needs=("predictions", "masks"))
    convert = {"bootstrap": _whole, "threshold": number, "tolerance": number, "skip_bad": truth}
    values: dict[str, Any] = {key: convert.get(key, _path)(key, value) for key, value in given.items()}
    return Request(**values)


def _path(_: str, value: str) -> Path | None:
    return Path(value).expanduser() if value else None


def _whole(key: str, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"{key} is {value!r}, but must be a whole number")
    return int(value)


def score_command(words: Sequence[str], *, dry: bool) -> int:
    """Runs `distill evaluate predictions=DIR masks=DIR ...`: tables on standard output, JSON where `out` says.

    Args:
        words: `key=value`, as in `USAGE`.
        dry: only says what would be scored.

    Returns:
        the exit status, 0.
    """
    request = read_request(words)
    if dry:
        entries, left_out = pair(request.predictions, request.masks, skip_bad=request.skip_bad)
        logger.info("would score %s; %s left out", several(len(entries), "image"), several(len(left_out), "file"))
        return 0
    result = score_folders(request)
    for line in notes(result):
        logger.info(line)
    sys.stdout.write(text(result))
    if request.out is not None:
        write_json(request.out, {"predictions": request.predictions.name, "masks": request.masks.name, **result})
        logger.info("every figure of every image is in %s", request.out)
    return 0
