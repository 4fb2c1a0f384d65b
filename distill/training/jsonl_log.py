"""log.jsonl: what training said, one JSON object a line; a resumed run writes on where its checkpoint stood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.runtime.io import write_text

LONGEST_LINE = 1 << 16  # bytes, with room to spare


class Journal:
    """Appends lines on the process that writes; elsewhere it does nothing."""

    def __init__(self, path: Path, *, step: int, writes: bool) -> None:
        self.path, self.writes = path, writes
        if writes:
            kept = [line for line in self.lines() if json.loads(line)["step"] <= step]
            write_text(path, "".join(f"{line}\n" for line in kept))

    def lines(self) -> list[str]:
        """The whole lines there are; one that a kill cut short is left out."""
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def add(self, **entry: Any) -> None:  # noqa: ANN401
        """Appends one line."""
        if self.writes:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")


def validation_of(path: Path) -> dict[int, float]:
    """Step -> validation Dice of a log.jsonl; nothing where there is none."""
    entries = map(json.loads, Journal(path, step=0, writes=False).lines())
    return {entry["step"]: entry["validation_dice"] for entry in entries if "validation_dice" in entry}


def last_step(path: Path) -> int:
    """The step of the last whole line of a log.jsonl, of which only the end is read; 0 where there is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - LONGEST_LINE))
        whole = stream.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
    return json.loads(whole)["step"] if whole else 0
