"""File names as text: on Linux a name is bytes, which need not be UTF-8."""

from __future__ import annotations

RENAME = "rename it, as convmv -f latin1 -t utf8 does"


def is_utf8(name: str) -> bool:
    """Whether a name, as Python lists it, can be written to a file or a terminal."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
