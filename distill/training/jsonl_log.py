"""log.jsonl: losses and scores of a run, one JSON object a line; a resumed run goes on where its checkpoint stood."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distill.runtime.io import write_text

LONGEST_LINE = 1 << 16  # bytes, with room to spare


class JsonlLog:
    """Appends lines on the process that writes; elsewhere it does nothing."""

    def __init__(self, path: Path, *, step: int, writes: bool) -> None:
        self.path, self.writes = path, writes
        if writes:
            kept = [entry for entry in read_log(path) if entry["step"] <= step]
            write_text(path, "".join(f"{json.dumps(entry)}\n" for entry in kept))

    def add(self, **entry: Any) -> None:  # noqa: ANN401
        """Appends one line."""
        if self.writes:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log.jsonl; empty where there is none. A last line that a kill cut short is left out.

    Raises:
        ValueError: a line is damaged.
    """
    text = path.read_bytes() if path.is_file() else b""
    return list(parse_lines(path, text[: text.rfind(b"\n") + 1].splitlines()))


def read_validation(path: Path) -> dict[int, float]:
    """Step -> validation Dice of a log.jsonl; empty where there is none. Errors as of `read_log`."""
    return {entry["step"]: entry["validation_dice"] for entry in read_log(path) if "validation_dice" in entry}


def last_step(path: Path) -> int:
    """The step of the last whole line of a log.jsonl, of which only the end is read; 0 where there is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - LONGEST_LINE))
        whole = stream.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
    return next((entry["step"] for entry in parse_lines(path, [whole] if whole else [])), 0)


def parse_lines(path: Path, lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    """The entries in lines of a log, each with its step.

    Raises:
        ValueError: a line is damaged.
    """
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            shown = line[:40].decode("utf-8", "replace")
            raise ValueError(
                f"{path} is damaged (expected JSON objects with a step, got the line {shown!r}); delete that line, or "
                "the file: it records losses and scores, and nothing else is lost"
            )
        yield entry
