"""Names for a published student's folder: `zoo:NAME` for students/zoo/NAME, and a run's folder for its `student/`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "zoo"
PREFIX = "zoo:"
MODEL = "model.safetensors"


def names() -> list[str]:
    """The names of the students in the zoo, in alphabetical order, without the prefix."""
    return sorted(path.parent.name for path in FOLDER.glob("[!.]*/config.json"))


def place_of(source: str | Path) -> str | Path:
    """The folder of a student given as `zoo:NAME` or as the run that published it; any other source is returned as is.

    Raises:
        FileNotFoundError: there is no student of that name; the message lists the existing ones.
    """
    if not str(source).startswith(PREFIX):
        run = Path(source).expanduser()
        is_run = source != "" and (run / "recipe.yaml").is_file() and not (run / MODEL).exists()
        return run / "student" if is_run and (run / "student" / MODEL).is_file() else source
    name, known = str(source).removeprefix(PREFIX), names()
    if name in known:
        return FOLDER / name
    if not known:
        raise FileNotFoundError(
            f"no student {str(source)[:100]!r}: none comes with this copy of Bandpass; give a folder"
        )
    near = get_close_matches(name[:100], known, n=1)
    hint = f"; did you mean '{PREFIX}{near[0]}'?" if near else ""
    choices = ", ".join(PREFIX + one for one in known)
    raise FileNotFoundError(f"no student {str(source)[:100]!r}; choose from {choices}{hint}")


def places_of(sources: str | Path) -> list[str]:
    """The places of one or several students: separated by commas, or the sub-folders (or runs) that hold a student."""
    path = Path(sources).expanduser()
    if path.is_dir() and not (path / MODEL).is_file():
        inside = [Path(place_of(folder)) for folder in sorted(path.iterdir())]
        return [str(folder) for folder in inside if (folder / MODEL).is_file()] or [str(path)]
    if path.exists():
        return [str(path)]
    return [place.strip() for place in str(sources).split(",") if place.strip()]
