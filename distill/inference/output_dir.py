"""The folder of results: its settings, finished results and tables; consistent after a kill at any time."""

from __future__ import annotations

import csv
import io
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.runtime.io import read_json, write_json, write_text
from distill.runtime.issues import printable

RECORD = "predict.json"
KINDS = MASKS, OVERLAYS, PROBABILITIES, VIDEOS = "masks", "overlays", "probabilities", "videos"
TABLES = PICTURE_TABLE, VIDEO_TABLE = "areas.csv", "videos.csv"
UNFINISHED = ".writing-"
FORMULA = ("=", "+", "-", "@")  # a spreadsheet computes cells that begin with these
SAVE_EVERY_SECONDS = 5.0  # at most lost by a kill; saving at every image would take quadratic time


class Table:
    """A CSV of rows by the name of their input, saved as a whole every few seconds.

    Names are written by `cell`. Safe to use from several threads.

    Raises:
        ValueError: the file has other columns, for example if a spreadsheet saved it with semicolons.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.lock, self.saved = threading.Lock(), time.monotonic()
        if path.is_file():
            again = "perhaps because a spreadsheet saved it; remove it, and its images are done again"
            try:
                with path.open(encoding="utf-8", newline="") as stream:
                    reader = csv.DictReader(stream)
                    if tuple(reader.fieldnames or self.columns) != self.columns:
                        first = ",".join(self.columns[:3])
                        raise ValueError(
                            f"{path} does not begin with the columns {first},... that distill predict wrote, {again}"
                        )
                    for row in reader:
                        self.rows.setdefault(row[self.columns[0]], []).append(row)
            except (UnicodeDecodeError, csv.Error) as error:
                raise ValueError(f"{path} is not the table that distill predict wrote ({error}), {again}") from error

    def of(self, name: str) -> list[dict[str, Any]]:
        """The rows of an input; empty if it has none."""
        return self.rows.get(cell(name), [])

    def put(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replaces the rows of an input; its name becomes their first column."""
        with self.lock:
            self.rows[cell(name)] = [{self.columns[0]: cell(name), **row} for row in rows]
            if time.monotonic() - self.saved > SAVE_EVERY_SECONDS:
                self._write()

    def save(self) -> None:
        """Writes the file, sorted by name."""
        with self.lock:
            self._write()

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for name in sorted(self.rows) for row in self.rows[name])
        write_text(self.path, text.getvalue())
        self.saved = time.monotonic()


def remove_results(files: Iterable[Path], table: Table, *, name: str) -> None:
    """Removes the results of an input: its files, and its rows of a table."""
    for path in files:
        path.unlink(missing_ok=True)
    table.put(name, [])


def cell(name: str) -> str:
    """A file's name in a table: printable, with an apostrophe in front if a spreadsheet would compute it."""
    return f"'{printable(name)}" if name.startswith(FORMULA) else printable(name)


def require_own(out: Path) -> None:
    """Refuses a folder with files that distill predict did not write; an empty or new folder is accepted.

    Raises:
        ValueError: such a folder, or a file.
    """
    if out.is_file():
        raise ValueError(f"out={out} is a file; name a folder")
    if not out.is_dir() or (out / RECORD).is_file():
        return
    if others := sorted(path.name for path in out.iterdir() if not path.name.startswith(".")):
        raise ValueError(
            f"out={out} holds {others[0]!r} but no {RECORD}, so distill predict did not make it and will not "
            "write into it; choose an empty or a new folder"
        )


def prepare(out: Path, settings: Mapping[str, Any], *, about: Mapping[str, Any], stems: Collection[str]) -> str:
    """Prepares `out` for results with these settings; results with other settings are removed.

    Args:
        out: the folder; made if need be. This process holds its lock (`cache.lock`).
        settings: the settings that decide the pixels of a mask, JSON-able.
        about: further entries of the record.
        stems: of the inputs, whose results are made anew.

    Returns:
        A sentence if older results were removed, else empty.

    Raises:
        ValueError: some results with other settings would not be made anew.
    """
    _sweep(out)
    path = out / RECORD
    if not path.is_file():
        write_json(path, {**settings, **about})
        return ""
    before = read_json(path, cure="remove its folder, and its results are made again")
    changed = [key for key in settings if before.get(key) != settings[key]]
    if not changed:
        return ""
    said = ", ".join(f"{key} {_short(before.get(key))} (now {_short(settings[key])})" for key in changed)
    if others := sorted(_stems(out).difference(stems)):
        raise ValueError(
            f"{out} was made with {said}, and holds results of {others[0]!r}, which is not among images= now; choose "
            "another out="
        )
    for kind in KINDS:  # so that no mask of another student stays
        shutil.rmtree(out / kind, ignore_errors=True)
    for name in TABLES:  # other CSV files are the user's own
        (out / name).unlink(missing_ok=True)
    write_json(path, {**settings, **about})
    return f"{out} was made with {said}: everything in it is done again"


def place(out: Path, kind: str, stem: str, suffix: str) -> Path:
    """The path of a result: `masks/sub/a.png`."""
    return out / kind / f"{stem}{suffix}"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name for a result while it is written; it becomes `path` if nothing fails.

    Its folder is made if need be. Nothing is forced to disk: unlike a cache, a mask is quickly made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")  # a longer one might be too long for the system
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _stems(out: Path) -> set[str]:
    """The stems of the inputs that have results: a mask or a video."""
    kept = {out / MASKS: "[!.]*.png", out / VIDEOS: "[!.]*.mp4"}
    return {
        str(path.relative_to(folder).with_suffix(""))
        for folder, pattern in kept.items()
        for path in folder.rglob(pattern)
    }


def _short(value: Any) -> str:  # noqa: ANN401
    said = str(value)
    return said[:12] if len(said) == 64 else said


def _sweep(out: Path) -> None:
    """Removes what killed writers left; the folder is locked, so no writer is at work."""
    found = [*out.glob(f"{UNFINISHED}*")]
    for kind in KINDS:
        found += (out / kind).rglob(f"{UNFINISHED}*")
    for path in found:
        path.unlink(missing_ok=True)
