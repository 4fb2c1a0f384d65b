"""`distill evaluate predictions=DIR masks=DIR`: scores any folder of predictions, in every convention."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distill.cli.options import Command, Option, number, path, truth, whole
from distill.evaluation.folder_pairs import mask_threshold, pair, prediction_scale, read_entries, settle
from distill.metrics.aggregate import SIZES, summarise_empty, summarise_set, summarise_sizes
from distill.metrics.names import conventions
from distill.metrics.overlap import THRESHOLD
from distill.metrics.per_image import TOLERANCE, ImageScore, score_everything
from distill.metrics.score_table import ScoreTable
from distill.metrics.table import text
from distill.runtime.io import write_json
from distill.runtime.issues import several
from distill.runtime.progress import progress

logger = logging.getLogger("bandpass")


def score_folders(given: SimpleNamespace) -> dict[str, Any]:
    """Scores a folder of predictions against a folder of masks.

    Files are paired by stem. Grey values over 255 are probabilities; where no prediction passes level 1, they are
    taken as masks of 0 and 1. Masks are foreground from level 128 on, or from 1 where none of them passes 1. A
    prediction of another size than its mask is resized to it.

    Returns:
        {"images", "resized", "level_of_one", "left_out", "threshold", "tolerance", "conventions", "mean": {figure:
        {"mean", "low", "high"}} (of few images the mean alone), "by_size": {size: {"images", figure: ...}},
        "size_limits", "empty_masks": {"images", ...}, "per_image": {stem: {figure: value}}}

    Raises:
        FileNotFoundError: a folder is not there.
        ValueError: files that cannot be paired or read (unless `skip_bad`), or masks of several classes.
    """
    entries, left_out = pair(given.predictions, given.masks, skip_bad=given.skip_bad)
    scores = ScoreTable(len(entries))
    figures: dict[str, dict[str, float]] = {}
    resized = 0
    threshold = mask_threshold([entry.mask for entry in entries])
    scale = prediction_scale([entry.prediction for entry in entries])
    readings = progress(read_entries(entries, threshold=threshold, scale=scale), what="score", total=len(entries))
    for entry, reading in zip(entries, readings, strict=True):
        if isinstance(reading, str):
            left_out.append(reading)
            continue
        resized += reading.resized
        score = score_everything(
            reading.probability, reading.mask, threshold=given.threshold, tolerance=given.tolerance
        )
        scores.add(score)
        figures[entry.stem] = per_image(score)
    settle(left_out, skip_bad=given.skip_bad)
    if not figures:
        raise ValueError(f"none of {several(len(entries), 'pair')} can be read; the first: {left_out[-len(entries)]}")
    return {
        "images": len(scores),
        "resized": resized,
        "level_of_one": scale,
        "left_out": left_out,
        "threshold": given.threshold,
        "tolerance": given.tolerance,
        "conventions": conventions(threshold=given.threshold, tolerance=given.tolerance),
        "mean": summarise_set(scores, resamples=given.bootstrap),
        "by_size": summarise_sizes(scores, resamples=given.bootstrap),
        "size_limits": SIZES,
        "empty_masks": summarise_empty(scores, resamples=given.bootstrap),
        "per_image": figures,
    }


def per_image(score: ImageScore) -> dict[str, float]:
    """One image's entry: its figures, counts of pixels, and the share of the image that its mask covers."""
    return {**score.figures, **dict(zip(("tp", "fp", "fn", "tn"), score.counts, strict=True)), "share": score.share}


def notes(result: dict[str, Any]) -> list[str]:
    """Notes to be read before the tables."""
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


def share(key: str, value: str) -> float:
    """A threshold: over 0, and up to 1.

    Raises:
        ValueError: it is none.
    """
    if not 0 < number(key, value) <= 1:
        raise ValueError(f"{key} is {number(key, value):g}, but must lie over 0 and up to 1")
    return number(key, value)


def distance(key: str, value: str) -> float:
    """A distance in pixels, which is not negative.

    Raises:
        ValueError: it is none.
    """
    if not number(key, value) >= 0:
        raise ValueError(f"{key} is {number(key, value):g} pixels, but must not be negative")
    return number(key, value)


def new_file(key: str, value: str) -> Path:
    """The path of a file to write.

    Raises:
        ValueError: it is a folder.
    """
    if (place := path(key, value)).is_dir():
        raise ValueError(f"{key}={value} is a folder; name a file, as {key}={place / 'scores.json'}")
    return place


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Scores the folders: tables on standard output, JSON where `out` says; dry: only says what would be scored."""
    if dry:
        entries, left_out = pair(given.predictions, given.masks, skip_bad=given.skip_bad)
        logger.info("would score %s; %s left out", several(len(entries), "image"), several(len(left_out), "file"))
        return 0
    result = score_folders(given)
    for line in notes(result):
        logger.info(line)
    sys.stdout.write(text(result))
    if given.out is not None:
        write_json(given.out, {"predictions": given.predictions.name, "masks": given.masks.name, **result})
        logger.info("every figure of every image is in %s", given.out)
    return 0


COMMAND = Command(
    "evaluate",
    run,
    does="Scores any folder of predictions, in every convention. Pictures are paired with masks by stem; a mask is "
    "foreground from level 128 (or 1) on.",
    writes=("a table on standard output, and FILE.json: every figure of every image",),
    options=(
        Option(
            "predictions",
            "a folder of pictures, grey values over 255 for probabilities",
            "DIR",
            read=path,
            required=True,
        ),
        Option("masks", "a folder of masks", "DIR", read=path, required=True),
        Option("out", "every figure of every image", "FILE.json", read=new_file),
        Option("bootstrap", "resamples of the 95 % intervals", "2000", 2000, whole(1)),
        Option("threshold", "from which probability on a pixel is foreground", f"{THRESHOLD}", THRESHOLD, share),
        Option(
            "tolerance",
            "pixels: surface Dice counts a contour as met where the other is at most so far away",
            f"{TOLERANCE:g}",
            TOLERANCE,
            distance,
        ),
        Option("skip_bad", "go on without files that cannot be paired or read", "false", False, truth),
    ),
    examples=(
        "distill evaluate predictions=DIR masks=DIR out=FILE.json # other people's results, scored the same way",
    ),
)
