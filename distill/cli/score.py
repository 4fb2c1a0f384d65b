"""`distill evaluate predictions=DIR masks=DIR`: scores any folder of predictions, by every convention."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distill.cli.options import Command, Option, number, path, truth, whole
from distill.evaluation.folder_pairs import pair
from distill.evaluation.folder_scores import score_folders
from distill.inference.thresholds import require_share
from distill.metrics.overlap import THRESHOLD
from distill.metrics.per_image import TOLERANCE
from distill.metrics.table import text
from distill.runtime.io import write_json
from distill.runtime.issues import several

logger = logging.getLogger("bandpass")


def notes(result: dict[str, Any]) -> list[str]:
    """The notes to read before the tables."""
    said = [f"scored {several(result['images'], 'image')}, each at its mask's size"]
    if result["resized"]:
        said.append(
            f"{several(result['resized'], 'prediction')} had another size and "
            f"{'was' if result['resized'] == 1 else 'were'} resized to the mask (bilinear, antialiased)"
        )
    if result["level_of_one"] == 1:
        said.append("no prediction exceeds level 1, so level 1 is taken as a probability of 1")
    if result["left_out"]:
        said.append(f"left out {several(len(result['left_out']), 'file')}: {result['left_out'][0]}")
    if empty := result["empty_masks"]["images"]:
        said.append(
            f"{several(empty, 'mask')} {'is' if empty == 1 else 'are'} empty: there, an empty prediction scores 1 at a "
            "threshold, but 0 in PraNet's figures and the weighted F-measure"
        )
    return said


def share(key: str, value: str) -> float:
    """A threshold, above 0 and at most 1.

    Raises:
        ValueError: it is not one.
    """
    return require_share(key, number(key, value))


def distance(key: str, value: str) -> float:
    """A distance in pixels, not negative.

    Raises:
        ValueError: it is not one.
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
    """Scores the folders: prints tables, and writes JSON to `out`; dry: only says what would be scored."""
    if dry:
        entries, left_out = pair(given.predictions, given.masks, skip_bad=given.skip_bad)
        logger.info("would score %s; %s left out", several(len(entries), "image"), several(len(left_out), "file"))
        return 0
    result = score_folders(
        given.predictions,
        given.masks,
        threshold=given.threshold,
        tolerance=given.tolerance,
        bootstrap=given.bootstrap,
        skip_bad=given.skip_bad,
    )
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
    does="Scores any folder of predictions, by every convention. Pictures are paired with masks by stem; in a mask, "
    "levels from 128 (or 1) on are foreground.",
    writes=("a table on standard output, and FILE.json: every figure of every image",),
    options=(
        Option(
            "predictions",
            "a folder of pictures; grey values / 255 are probabilities",
            "DIR",
            read=path,
            required=True,
        ),
        Option("masks", "a folder of masks", "DIR", read=path, required=True),
        Option("out", "every figure of every image", "FILE.json", read=new_file),
        Option("bootstrap", "bootstrap resamples for the 95 % intervals", "2000", 2000, whole(1)),
        Option("threshold", "probability from which a pixel is foreground", f"{THRESHOLD}", THRESHOLD, share),
        Option(
            "tolerance",
            "pixels within which contours count as equal in surface Dice",
            f"{TOLERANCE:g}",
            TOLERANCE,
            distance,
        ),
        Option("skip_bad", "leave out files that cannot be paired or read, instead of stopping", "false", False, truth),
    ),
    examples=(
        "distill evaluate predictions=DIR masks=DIR out=FILE.json # other people's results, scored the same way",
    ),
)
