"""log.jsonl: what training said, one JSON object a line; a resumed run writes on where its checkpoint stood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.files import write_text


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
