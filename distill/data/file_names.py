"""File names as text: on Linux a name is bytes, which need not be UTF-8."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from distill.runtime.issues import printable

SHOWN = 8  # names in a message
RENAME = "rename it, as convmv -f latin1 -t utf8 does"


def is_utf8(name: str) -> bool:
    """Whether a name, as Python lists it, can be written to a file or a terminal."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def first_names(paths: Iterable[Path]) -> str:
    """The first names of these files in order, `printable`, for messages; `nothing` if there are none."""
    return ", ".join(printable(path.name) for path in sorted(paths)[:SHOWN]) or "nothing"
