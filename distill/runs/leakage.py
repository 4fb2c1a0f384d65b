"""Leakage through starting weights and teachers: their training images must not be tested on here."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

from distill.config.schema import Recipe
from distill.data.sample import Splits, keys_of
from distill.runs.run import Run
from distill.runtime.issues import several
from students import learned_keys
from students.catalogue import place_of, places_of
from students.config import is_hub_id
from students.published import LEARNED

logger = logging.getLogger("bandpass")


def check_leakage(recipe: Recipe, splits: Splits) -> None:
    """Refuses starting weights that were trained on masks of images which are held out, or unlabelled, here.

    Weights that Bandpass did not publish have no record of this; for a student, that is logged once. A record knows
    images by their bytes: if none of them is here, a note says that they may be here in another form.

    Raises:
        ValueError: the record beside the weights names such images.
    """
    for setting, keys in training_keys_of_start(recipe).items():
        if keys is None:
            _warn_unknown(setting)
        else:
            _require_shown(setting, keys, splits, remedy="start from weights trained with the same, or none")


def check_teachers(run: Run) -> None:
    """Refuses teachers whose recipes learn from images that are held out here, or from masks that are hidden here.

    Raises:
        ValueError: a teacher does.
    """
    held_out, hidden = keys_of(run.splits.held_out), run.splits.hidden
    for name, runs in run.made.items():
        for one in runs:
            images = keys_of(one.splits.training if one.recipe.takes_unlabelled else one.splits.train)
            start = [keys for keys in training_keys_of_start(one.recipe).values() if keys is not None]
            masks = keys_of(one.splits.train).union(*start, *training_keys_of_teachers(one).values())
            if known := len(images & held_out):
                seen = f"{known} images that are validation or test here"
            elif known := len(masks & hidden):
                seen = f"the masks of {known} images that have no mask here, or are held out"
            else:
                continue
            raise ValueError(
                f"teachers.{name}.recipe={run.recipe.teachers[name].recipe} would train a teacher on {seen}; without "
                f"data and starting weights in teachers.{name}.overrides, it learns from the images of this recipe"
            )


def check_published_teachers(run: Run) -> None:
    """Refuses published students as teachers if they learned from masks which are held out, or unlabelled, here.

    Their cache records this too, once it is extracted.

    Raises:
        ValueError: the record beside the weights names such masks.
    """
    remedy = "use those with which it was trained (zoo: PraNet's split), or a teacher trained with yours"
    for setting, keys in training_keys_of_teachers(run).items():
        _require_shown(setting, keys, run.splits, remedy=remedy)


def training_keys_of_teachers(run: Run) -> dict[str, set[str]]:
    """`teachers.NAME.weights=...` of published students -> keys of the images with masks in their training.

    From the records beside the weights, before there is a cache.
    """
    found = {}
    for name in run.caches:
        teacher = run.recipe.teachers[name]
        if teacher.adapter in ("student", "ensemble") and name not in run.made and teacher.weights is not None:
            folders = [folder for place in places_of(teacher.weights) for folder in folders_of(place)]
            keys = {key for folder in folders for key in learned_keys(folder) or ()}
            found[f"teachers.{name}.weights={teacher.weights}"] = keys
    return found


def training_keys_of_start(recipe: Recipe) -> dict[str, set[str] | None]:
    """`student.init=...`, `student.encoder=...` -> keys of the images with masks in its training; None: no record."""
    found: dict[str, set[str] | None] = {}
    for name in ("init", "encoder"):
        if place := getattr(recipe.student, name):
            known = [keys for folder in folders_of(place) if (keys := learned_keys(folder)) is not None]
            found[f"student.{name}={place}"] = set(known[0]) if known else None
    return found


def folders_of(place: str) -> list[Path]:
    """Folders that may hold the record of a published student or encoder: its own, or the two above its file."""
    path = Path(place_of(place)).expanduser()
    if path.exists():
        return [path] if path.is_dir() else list(path.parents[:2])
    if not is_hub_id(place):
        return []
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return [Path(hf_hub_download(place, LEARNED)).parent]
    except (EntryNotFoundError, OSError, ValueError):  # whether the student itself is there is checked elsewhere
        return []


def _require_shown(setting: str, keys: set[str], splits: Splits, *, remedy: str) -> None:
    """Refuses weights that learned from masks of these images (keys) if one is held out or unlabelled here.

    If none of the images is here, a note says that they may be here in another form.
    """
    if known := len(splits.hidden & keys):
        raise ValueError(
            f"{setting} was trained on the masks of {known} images that are validation, test or unlabelled here, by "
            f"data.split, data.fold, data.seed and data.labels; {remedy}"
        )
    if keys and not keys & keys_of(splits.train):
        _note_others(setting, len(keys))


@lru_cache
def _note_others(setting: str, count: int) -> None:
    logger.info(
        "%s was trained on the masks of %s, none of which is here as it was; if they are here resized or saved anew, "
        "validation and test may hold some of them",
        setting,
        several(count, "image"),
    )


@lru_cache
def _warn_unknown(setting: str) -> None:
    if setting.startswith("student.init="):  # an encoder is usually a library's, not trained on these masks
        logger.warning("%s does not say which masks it learned from; check that none of them is tested here", setting)
