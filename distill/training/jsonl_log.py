"""log.jsonl: losses and scores of a run, one JSON object per line; a resumed run continues from its checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distill.runtime.io import write_text

LONGEST_LINE = 1 << 16  # bytes, with room to spare


class JsonlLog:
    """Appends lines on the process that writes; on others it does nothing."""

    def __init__(self, path: Path, *, step: int, writes: bool, digest: str | None = None) -> None:
        """Keeps the lines up to a step; if a digest is given, they must match it.

        Raises:
            ValueError: a line is damaged, or the lines do not match the digest.
        """
        self.path, self.writes = path, writes
        if writes:
            text = "".join(f"{json.dumps(entry)}\n" for entry in read_log(path) if entry["step"] <= step)
            if path.is_file():
                require_digest(path, text.encode(), digest)
            write_text(path, text)

    def digest(self) -> str | None:
        """The sha256 (hex) of the file; None on a process that does not write."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.writes else None

    def add(self, **entry: Any) -> None:  # noqa: ANN401
        """Appends one line."""
        if self.writes:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")


def require_digest(path: Path, text: bytes, digest: str | None) -> None:
    """Raises ValueError if a digest is given and the lines of a log do not match it."""
    if digest not in (None, found := hashlib.sha256(text).hexdigest()):
        raise ValueError(
            f"{path} is damaged (expected lines of sha256 {digest:.12}, got {found[:12]}); restore it, or delete the "
            "file: it records losses and scores, and nothing else is lost"
        )


def read_log(path: Path, *, digest: str | None = None) -> list[dict[str, Any]]:
    """The entries of a log.jsonl; empty if there is none. A last line cut short by a kill is left out.

    Raises:
        ValueError: a line is damaged, or the file does not match the digest.
    """
    if path.is_dir():
        raise ValueError(f"{path} is damaged (it is a folder); remove it: only losses and scores are lost")
    text = path.read_bytes() if path.is_file() else b""
    if path.is_file():
        require_digest(path, text, digest)
    return list(parse_lines(path, text[: text.rfind(b"\n") + 1].splitlines()))


def read_validation(path: Path, *, digest: str | None = None) -> dict[int, float]:
    """The validation Dice of a log.jsonl by step; empty if there is none. Errors as of `read_log`."""
    return {
        entry["step"]: entry["validation_dice"] for entry in read_log(path, digest=digest) if "validation_dice" in entry
    }


def last_step(path: Path) -> int:
    """The step of the last complete line of a log.jsonl, from the end of the file; 0 if there is none."""
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
