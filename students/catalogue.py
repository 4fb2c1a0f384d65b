"""Places that stand for a published student's folder: `zoo:NAME` for students/zoo/NAME, a run for its `student/`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "zoo"
PREFIX = "zoo:"


def names() -> list[str]:
    """The names of the students that are here, in alphabetical order, without the prefix."""
    return sorted(path.parent.name for path in FOLDER.glob("[!.]*/config.json"))


def place_of(source: str | Path) -> str | Path:
    """The folder of a student by the name `zoo:NAME`, or by the run that published it; any other source as it is.

    Raises:
        FileNotFoundError: there is no student of that name; the message lists those that there are.
    """
    if not str(source).startswith(PREFIX):
        run = Path(source).expanduser()
        is_run = source != "" and (run / "recipe.yaml").is_file() and not (run / "model.safetensors").exists()
        return run / "student" if is_run and (run / "student" / "model.safetensors").is_file() else source
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
