"""File names as text: on Linux a name is bytes, which need not be UTF-8."""

from __future__ import annotations

import os

RENAME = "rename it, as convmv -f latin1 -t utf8 does"


def is_utf8(name: str) -> bool:
    """Whether a name as Python lists it is text that can be written to a file or a terminal."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    r"""A name with `\xe9` in the place of each byte that is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
