"""Names, licences and notes by others, escaped so that Markdown shows them as text: no markup, HTML or new lines."""

from __future__ import annotations

import re

from markupsafe import Markup

from distill.runtime.issues import printable

SIGNS = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is harmless
BLOCKS = re.compile(r"^(?:[-+=#]|\d+(?=[.)]( |$)))")  # what begins a list, a heading or a line of a paragraph


def one_line(value: object) -> str:
    """A text on one line, printable."""
    return printable(" ".join(str(value).split()))


def plain(value: object) -> str:
    """A text within a paragraph, a heading or a cell of a table."""
    escaped = SIGNS.sub(r"\\\g<0>", one_line(value))
    return BLOCKS.sub(lambda found: f"\\{found[0]}" if found[0] in "-+=#" else f"{found[0]}\\", escaped)


def escape(value: object) -> object:
    """A value as a Markdown template prints it: strings through `plain`, unless they are `Markup`."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def code(value: object) -> Markup:
    """A text as inline code."""
    said = one_line(value)
    fence = _fence(said, least=1)
    space = " " if said.startswith("`") or said.endswith("`") else ""
    return Markup(f"{fence}{space}{said}{space}{fence}")


def block(value: object, language: str) -> Markup:
    """A text of one line as a code block."""
    said = one_line(value)
    fence = _fence(said, least=3)
    return Markup(f"{fence}{language}\n{said}\n{fence}")


def _fence(text: str, *, least: int) -> str:
    """A fence with more backticks than any run of them in the text."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
