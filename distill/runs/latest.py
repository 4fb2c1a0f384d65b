"""Finding a run by its folder or its name, the latest of a recipe by the recipe's name, and the list of all."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from distill.runtime.io import read_json_if_sound

PUBLISHED = ("student", "teacher")  # the folder of a run that others use
DIGEST = re.compile(r"-[0-9a-f]{12}$")  # how a run's folder ends
DATED = ("log.txt", "metrics.json", "train.json", "log.jsonl", "recipe.yaml")  # the newest of these dates a run


def digest_in(name: str) -> str:
    """The digest that the name of a run's folder ends with; the name itself where it has none."""
    found = DIGEST.search(name)
    return found[0][1:] if found else name


@dataclass(frozen=True)
class Listed:
    """A run as it is listed.

    Attributes:
        folder: where it is; its name is RECIPE-STUDENT-DIGEST.
        date: when something was last written.
        steps: of the optimiser, once training is complete.
        dice: the mean on each test set, once it is evaluated.
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
    """Whether a folder is that of a run, and not of a published student, which also has a recipe."""
    held = [(folder / name).is_file() for name in DATED]
    return any(held) and not (folder / "model.safetensors").is_file() and not (folder / "config.json").is_file()


def runs_in(home: str | Path) -> list[Listed]:
    """The runs of a home folder, the latest first."""
    folders = [path for path in (Path(home).expanduser() / "runs").glob("*") if path.is_dir() and is_run(path)]
    return sorted(map(listed, folders), key=lambda one: (one.date, one.folder.name), reverse=True)


def listed(folder: Path) -> Listed:
    """A run's folder as it is listed; what cannot be read of it is left out."""
    changed = max((folder / name).stat().st_mtime for name in DATED if (folder / name).is_file())
    scores = read_json_if_sound(folder / "metrics.json").get("datasets", {})
    dice = {name: score["dice"]["mean"] for name, score in scores.items()}
    return Listed(folder, datetime.fromtimestamp(changed), read_json_if_sound(folder / "train.json").get("steps"), dice)


def find_run(name: str, *, home: str | Path) -> Path | None:
    """The folder of the run that a word means; None where it means none.

    Args:
        name: a run's folder; or, in `home`, its name, RECIPE-STUDENT or RECIPE, of which the latest is meant.
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
    """The name of a run's recipe: what is before the student's in the folder's name."""
    return one.name.rpartition("-")[0]


def student_of(name: str, *, home: str | Path) -> str:
    """The place that `student=` names: the published folder of a run, by path or by name; anything else as it is.

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
