"""Names, licences and notes that others wrote, as Markdown that shows just these: no markup, HTML or new lines."""

from __future__ import annotations

import re

from markupsafe import Markup

from distill.runtime.issues import printable

SIGNS = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word means nothing
BLOCKS = re.compile(r"^(?:[-+=#]|\d+(?=[.)]( |$)))")  # what begins a list, a heading or a line of a paragraph


def one_line(value: object) -> str:
    """A text on one line, printable."""
    return printable(" ".join(str(value).split()))


def plain(value: object) -> str:
    """A text within a paragraph, a heading or a cell of a table."""
    escaped = SIGNS.sub(r"\\\g<0>", one_line(value))
    return BLOCKS.sub(lambda found: f"\\{found[0]}" if found[0] in "-+=#" else f"{found[0]}\\", escaped)


def escape(value: object) -> object:
    """A value as a template of Markdown prints it: strings `plain`, but for those that are marked as `Markup`."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def code(value: object) -> Markup:
    """A text in the typeface of code, within a paragraph."""
    said = one_line(value)
    fence = _fence(said, least=1)
    space = " " if said.startswith("`") or said.endswith("`") else ""
    return Markup(f"{fence}{space}{said}{space}{fence}")


def block(value: object, language: str) -> Markup:
    """A text of one line as a block of code."""
    said = one_line(value)
    fence = _fence(said, least=3)
    return Markup(f"{fence}{language}\n{said}\n{fence}")


def _fence(text: str, *, least: int) -> str:
    """More backticks than follow one another in a text."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
