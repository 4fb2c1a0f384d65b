"""Finding a run by folder, by name, or as the latest of a recipe, and the list of runs."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from distill.runtime.io import read_json_if_sound

PUBLISHED = ("student", "teacher")  # the published folder of a run
DIGEST = re.compile(r"-[0-9a-f]{12}$")  # the end of the name of a run's folder
DATED = ("log.txt", "metrics.json", "train.json", "log.jsonl", "recipe.yaml")  # the newest of these dates a run


def digest_in(name: str) -> str:
    """The digest at the end of the name of a run's folder; the name itself if it has none."""
    found = DIGEST.search(name)
    return found[0][1:] if found else name


@dataclass(frozen=True)
class Listed:
    """A run as it is listed.

    Attributes:
        folder: its folder, named RECIPE-STUDENT-DIGEST.
        date: the time of the last change.
        steps: optimiser steps, once training is complete.
        dice: mean Dice on each test set, once it is evaluated.
    """

    folder: Path
    date: datetime
    steps: int | None
    dice: dict[str, float]

    @property
    def name(self) -> str:
        """RECIPE-STUDENT, the stable name of the latest such run."""
        return DIGEST.sub("", self.folder.name)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, not that of a published student, which also has a recipe."""
    held = [(folder / name).is_file() for name in DATED]
    return any(held) and not (folder / "model.safetensors").is_file() and not (folder / "config.json").is_file()


def runs_in(home: str | Path) -> list[Listed]:
    """The runs of a home folder, the latest first."""
    folders = [path for path in (Path(home).expanduser() / "runs").glob("*") if path.is_dir() and is_run(path)]
    return sorted(map(listed, folders), key=lambda one: (one.date, one.folder.name), reverse=True)


def listed(folder: Path) -> Listed:
    """The entry of a run in the list; what cannot be read is left out."""
    changed = max((folder / name).stat().st_mtime for name in DATED if (folder / name).is_file())
    scores = read_json_if_sound(folder / "metrics.json").get("datasets", {})
    dice = {name: score["dice"]["mean"] for name, score in scores.items()}
    return Listed(folder, datetime.fromtimestamp(changed), read_json_if_sound(folder / "train.json").get("steps"), dice)


def find_run(name: str, *, home: str | Path) -> Path | None:
    """The folder of the run that a word means; None if there is no such run.

    Args:
        name: a run's folder, or its name in `home`; RECIPE-STUDENT or RECIPE means the latest such run.
        home: the folder that holds `runs/`.
    """
    place = Path(name).expanduser()
    if place.is_dir():
        return place if is_run(place) else None
    if not re.fullmatch(r"[^/\\]+", name):
        return None
    known = runs_in(home)
    for fits in (lambda one: one.folder.name == name, lambda one: one.name == name, lambda one: recipe_of(one) == name):
        if found := next((one.folder for one in known if fits(one)), None):
            return found
    return None


def recipe_of(one: Listed) -> str:
    """The name of a run's recipe: the part of the folder's name before the student's."""
    return one.name.rpartition("-")[0]


def student_of(name: str, *, home: str | Path) -> str:
    """The place that `student=` names: the published folder of a run, given by path or name; else the word itself.

    Raises:
        FileNotFoundError: the run has published nothing yet.
    """
    run = find_run(name, home=home)
    if run is None:
        return name
    for folder in PUBLISHED:
        if (run / folder / "model.safetensors").is_file():
            return str(run / folder)
    verb = "publish" if (run / "train.json").is_file() else "run"
    raise FileNotFoundError(f"{run} has no student yet; type distill {verb} recipe={shlex.quote(f'{run}/recipe.yaml')}")
