"""A student that is made from a published one without training: its folder, and the note on its card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.publishing.folder import replaced, require_free
from distill.publishing.plan import CARD
from distill.runtime.io import write_text
from students.config import locate
from students.published import LEARNED

DERIVED = ("adapted", "calibrated")  # entries of config.json that say what was done
COPIED = ("recipe.yaml", LEARNED)  # not results.json, whose figures are those of the student before


def require_new(out: Path) -> None:
    """Raises an error unless `out` is new or an empty folder that can be written.

    Raises:
        ValueError: it is neither, or its place cannot be written.
        FileExistsError: another process is writing it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={out} exists already; choose an empty or a new folder")
    place = next(parent for parent in out.absolute().parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ValueError(f"out={out} cannot be written: {place} is no folder that you may write to")
    require_free(out)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """An empty folder to write into, which becomes `out` if nothing goes wrong and `out` is still new or empty."""
    require_new(out)
    with replaced(out) as folder:
        yield folder


def name_of(student: str | Path, config: Mapping[str, Any]) -> str:
    """The name of the student before: that of its run or, if it is itself derived, of its folder."""
    place = Path(student).expanduser()
    if not place.is_dir():
        return str(student)
    derived = any(name in config for name in DERIVED)
    return place.name if derived else str(config.get("run", place.name))


def further_files(student: str | Path) -> dict[str, Path]:
    """The files beside the weights and the config of a student that its successor keeps, by name.

    Raises:
        ConnectionError: the hub does not say whether a file exists.
    """
    return {name: file for name in (*COPIED, CARD) if (file := beside(student, name)) is not None}


def beside(source: str | Path, name: str) -> Path | None:
    """Another file of a published student; None if it has no such file.

    Raises:
        ConnectionError: the hub does not say whether the file exists.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return locate(source, name)
    except FileNotFoundError as error:
        reason = error.__cause__  # the hub's; none of a folder
        absent = isinstance(reason, EntryNotFoundError) and not isinstance(reason, LocalEntryNotFoundError)
        if reason is None or absent:
            return None
        raise ConnectionError(f"{error}; {name} would be missing from the new student; try again later") from error


def write_further(files: Mapping[str, Path], note: str, *, folder: Path) -> None:
    """Copies the further files of the student before into `folder`, and writes its card with a note on top."""
    for name in COPIED:
        if name in files:
            shutil.copyfile(files[name], folder / name)
    card = files[CARD].read_text(encoding="utf-8") if CARD in files else ""
    write_text(folder / CARD, noted(card, note))


def noted(card: str, note: str) -> str:
    """A card with a note on top, and without the results in its front matter."""
    import yaml

    front, body = "", card
    if card.startswith("---\n") and "\n---\n" in card:
        front, body = card.removeprefix("---\n").split("\n---\n", 1)
        entries = {key: value for key, value in (yaml.safe_load(front) or {}).items() if key != "model-index"}
        front = f"---\n{yaml.safe_dump(entries, sort_keys=False)}---\n\n" if entries else ""
    return f"{front}{note}\n{body.lstrip()}"
