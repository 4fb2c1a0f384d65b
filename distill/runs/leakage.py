"""What weights to start from bring along: masks they have learned from, which must not be scored by here, and terms."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config.schema import Recipe
from students import learned_keys
from students.config import HUB_ID
from students.published import LEARNED

if TYPE_CHECKING:
    from distill.runs.run import Run

logger = logging.getLogger("bandpass")


def check_start(run: Run) -> None:
    """Refuses weights to start from that know the masks of images which are held out, or count as unlabelled, here.

    Weights that Bandpass did not publish tell nothing; of a student to start from that is said once.

    Raises:
        ValueError: they do, as far as what lies beside them says so.
    """
    held_out = {sample.key for part in (run.splits.val, *run.splits.test.values()) for sample in part}
    hidden = held_out | {sample.key for sample in run.splits.unlabelled}
    for setting, keys in learned_by_start(run.recipe).items():
        if keys is None:
            _say_untold(setting)
        elif known := len(hidden & keys):
            raise ValueError(
                f"{setting} learned from the masks of {known} images that are validation, test or unlabelled here; "
                "start from weights trained with the same data.split, data.fold, data.seed and data.labels, or none"
            )


def learned_by_start(recipe: Recipe) -> dict[str, set[str] | None]:
    """`student.init=...`, `student.encoder=...` -> keys of the images whose masks it learned from; None: not told."""
    found: dict[str, set[str] | None] = {}
    for name in ("init", "encoder"):
        if place := getattr(recipe.student, name):
            told = [keys for folder in folders_of(place) if (keys := learned_keys(folder)) is not None]
            found[f"student.{name}={place}"] = set(told[0]) if told else None
    return found


def folders_of(place: str) -> list[Path]:
    """Where a published student or encoder says more of itself: in its folder, or in the two above its file."""
    path = Path(place).expanduser()
    if path.exists():
        return [path] if path.is_dir() else list(path.parents[:2])
    if not HUB_ID.fullmatch(place):
        return []
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return [Path(hf_hub_download(place, LEARNED)).parent]
    except (EntryNotFoundError, OSError, ValueError):  # whether the student itself is there is told elsewhere
        return []


@lru_cache
def _say_untold(setting: str) -> None:
    if setting.startswith("student.init="):  # an encoder is as a rule a library's, which has seen no mask of ours
        logger.warning("%s does not say which masks it learned from; see that none of them is tested here", setting)
