"""What a student to start from has learned already: masks that must not be among those it is scored by here."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from distill.job import Job
from distill.recipe import Recipe

LEARNED = "learned.json"  # of a published student: the keys of the images whose masks were learned from

logger = logging.getLogger("bandpass")


def check_start(job: Job) -> None:
    """Refuses weights to start from that know the masks of images which are held out, or count as unlabelled, here.

    Raises:
        ValueError: they do, as far as what lies beside them says so.
    """
    held_out = {sample.key for part in (job.splits.val, *job.splits.test.values()) for sample in part}
    hidden = held_out | {sample.key for sample in job.splits.unlabelled}
    for setting, keys in learned_by_start(job.recipe).items():
        if known := len(hidden & keys):
            raise ValueError(
                f"{setting} learned from the masks of {known} images that are validation, test or unlabelled here; "
                "start from weights trained with the same data.split, data.fold, data.seed and data.labels, or none"
            )


def learned_by_start(recipe: Recipe) -> dict[str, set[str]]:
    """`student.init=...` or `student.encoder=...` -> the keys of the images whose masks it learned from, where told.

    Weights that Bandpass did not publish tell nothing; of a student to start from that is said once, in the log.
    """
    found = {}
    if recipe.student.encoder:
        encoder = Path(recipe.student.encoder).expanduser()
        published = [place / LEARNED for place in encoder.parents[:2] if (place / LEARNED).is_file()]
        if published:
            found[f"student.encoder={recipe.student.encoder}"] = _read(published[0])
    if recipe.student.init:
        setting = f"student.init={recipe.student.init}"
        record = _record_of(recipe.student.init)
        if record is None:
            logger.warning("%s does not say which masks it learned from; see that none of them is tested here", setting)
        else:
            found[setting] = _read(record)
    return found


def _record_of(source: str) -> Path | None:
    """The file beside a published student in a folder or on the hub; None where there is none."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder / LEARNED if (folder / LEARNED).is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(source, LEARNED))
    except (EntryNotFoundError, OSError, ValueError):  # whether the student itself is there is told elsewhere
        return None


def _read(record: Path) -> set[str]:
    return set(json.loads(record.read_text(encoding="utf-8"))["labelled"])
