"""The arguments of a command, declared once; reading, error messages and `--help` follow from them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from types import SimpleNamespace
from typing import Any

from distill.config.field import require_choice
from distill.config.keys import describe_keys
from distill.config.schema import Recipe
from distill.runtime.issues import nearest
from distill.runtime.signals import CONTINUES, set_next

NARROWEST, WIDEST = 72, 110  # columns of help; a terminal's own lie in between

Read = Callable[[str, str], Any]  # key, text as typed -> value; raises ValueError


@dataclass(frozen=True)
class Option:
    """A key that belongs to one command.

    Attributes:
        name: the key.
        meaning: what it sets, with its unit.
        shown: placeholder of its value in help, as `DIR`, or the default if there is one.
        default: its value if not given.
        read: turns the typed text into a value.
        required: whether it must be given.
    """

    name: str
    meaning: str
    shown: str = ""
    default: Any = None
    read: Read = lambda _, value: value
    required: bool = False


@dataclass(frozen=True)
class Command:
    """The arguments of `distill NAME`.

    Attributes:
        name: the word that is typed.
        run: takes what `read` returns, and `dry` (only say what would be done); returns the exit status.
        does: sentences on what it does.
        writes: a line for each thing that it writes.
        options: its own keys.
        keys: the keys of `schema` that help shows, `KEY` with its default or `KEY=SHOWN`.
        schema: schema of further keys: `Recipe` if the command takes a recipe; None if there are none.
        examples: example commands.
        needs: words of the schema that the usage shows, as `recipe=NAME`.
        bare: the key whose value a word without `=` is, as in `distill keys stages`.
        further: whether it takes other keys that belong to no schema.
        more: help lines for those keys.
        continues: whether a second call resumes where the first one ended.
    """

    name: str
    run: Callable[..., int]
    does: str
    writes: Sequence[str] = ()
    options: Sequence[Option] = ()
    keys: Sequence[str] = ()
    schema: type | None = None
    examples: Sequence[str] = ()
    needs: Sequence[str] = ()
    bare: str = ""
    further: bool = False
    more: Callable[[], list[str]] | None = None
    continues: bool = False

    def __call__(self, words: Sequence[str], *, dry: bool) -> int:
        """Runs the command with these words; returns the exit status."""
        set_next(CONTINUES if self.continues else "")
        return self.run(self.read(words), dry=dry)

    @property
    def usage(self) -> str:
        """The command in one line, with optional words in brackets."""
        words = {o.name: o.name.upper() if o.name == self.bare else f"{o.name}={o.shown}" for o in self.options}
        own = [words[o.name] if o.required else f"[{words[o.name]}]" for o in self.options]
        return " ".join(
            [f"distill {self.name}", *self.needs, *own, *(["[key=value ...]"] if self.schema or self.further else [])]
        )

    def read(self, words: Sequence[str]) -> SimpleNamespace:
        """The values of the command's own keys, by name; `rest` has the words of all other keys, `words` has all.

        Raises:
            ValueError: a word is not key=value; a key is unknown, given twice or missing; a value is wrong.
        """
        known = {option.name: option for option in self.options}
        words = [f"{self.bare}={word}" if self.bare and "=" not in word else word for word in words]
        takes_more = self.further or self.schema is not None
        own = [word for word in words if not takes_more or word.partition("=")[0] in known]
        given = split_words(own)
        for key in given:
            if key not in known:
                choices = f"choose from {', '.join(known)}" if known else "it takes no keys"
                raise ValueError(f"distill {self.name} has no key {key!r}{nearest(key, known)}; {choices}")
        values = {name: option.default for name, option in known.items()}
        read = {key: known[key].read(key, value) for key, value in given.items() if value}
        values |= {key: value for key, value in read.items() if value != []}  # as not given
        for name, option in known.items():
            if option.required and not given.get(name):
                raise ValueError(f"distill {self.name} needs {name}=, as in {self.usage}")
        return SimpleNamespace(**values, rest=[word for word in words if word not in own], words=words)

    def help(self) -> str:
        """The text of `distill NAME --help`."""
        columns = columns_of_help()
        usage = wrap(self.usage, columns, subsequent_indent=8 * " ", break_long_words=False, break_on_hyphens=False)
        lines = [*usage, "", *wrap(self.does, columns), ""]
        if self.writes:
            lines += ["Writes", *table(split_columns(line) for line in self.writes), ""]
        if self.options:
            lines += ["Keys", *table((f"{o.name}={o.shown}", o.meaning) for o in self.options), ""]
        if self.keys:
            lines += ["Keys of the recipe, with defaults (a recipe sets its own)" if self.schema is Recipe else "Keys"]
            lines += [*table(self.shown_keys()), *(["  all keys: distill keys"] if self.schema is Recipe else []), ""]
        if self.more is not None:
            lines += [*self.more(), ""]
        return "\n".join([*lines, "Examples", *(f"  {example}" for example in self.examples)]) + "\n"

    def shown_keys(self) -> list[tuple[str, str]]:
        """(`key=default`, meaning) of each schema key that help shows."""
        assert self.schema is not None
        known = {key: (default, meaning) for key, default, meaning in describe_keys(self.schema)}
        shown = [(key, placeholder) for key, _, placeholder in (entry.partition("=") for entry in self.keys)]
        return [(f"{key}={placeholder or known[key][0]}", known[key][1]) for key, placeholder in shown]


def split_columns(line: str) -> tuple[str, str]:
    """The part of a line before the first two spaces, and what follows them; empty if there are none."""
    first, *more = re.split(" {2,}", line, maxsplit=1)
    return first, "".join(more)


def columns_of_help() -> int:
    """The width of help: that of the terminal, within limits; the widest where the output is no terminal."""
    return min(WIDEST, max(NARROWEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def table(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Rows of (word, meaning) as lines in two columns, as wide as `columns_of_help`."""
    rows, columns = list(rows), columns_of_help()
    width = min(36, max((len(word) for word, _ in rows), default=0))
    lines = []
    for word, meaning in rows:
        told = wrap(meaning, columns - 4 - width)
        first = told.pop(0) if told and len(word) <= width else ""  # a long word has a line of its own
        lines += [f"  {word:<{width}}  {first}".rstrip(), *(f"  {'':<{width}}  {line}" for line in told)]
    return lines


def split_words(words: Sequence[str]) -> dict[str, str]:
    """`["a=1", "b=x,y"]` as key -> value; a value is taken as it stands, including commas.

    Raises:
        ValueError: a word is not `key=value`, or a key is given twice.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"expected key=value, got {word!r}; put quotes around a value with spaces")
        if key in given:
            raise ValueError(f"{key} is given twice, as {given[key]!r} and as {value!r}; take one of them out")
        given[key] = value
    return given


def path(_: str, value: str) -> Path:
    """A path, `~` expanded."""
    return Path(value).expanduser()


def number(key: str, value: str) -> float:
    """A number.

    Raises:
        ValueError: it is not a number.
    """
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"{key} is {value!r}, but must be a number") from error


def truth(key: str, value: str) -> bool:
    """True or false.

    Raises:
        ValueError: it is neither.
    """
    if value.lower() not in ("true", "false"):
        raise ValueError(f"{key} is {value!r}, but must be true or false")
    return value.lower() == "true"


def whole(least: int, most: int | None = None) -> Read:
    """Reads a whole number of at least `least` and, if given, at most `most`."""

    def read(key: str, value: str) -> int:
        if not value.isdecimal() or len(value) > 18 or int(value) < least or (most is not None and int(value) > most):
            limits = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise ValueError(f"{key} is {value!r}, but must be a whole number {limits}")
        return int(value)

    return read


def one_of(choices: Collection[str]) -> Read:
    """Reads one of these words."""

    def read(key: str, value: str) -> str:
        require_choice(key, value, choices)
        return value

    return read


def several_of(read: Read) -> Read:
    """Reads values separated by commas, with or without brackets; values may hold spaces."""
    return lambda key, value: [read(key, part.strip()) for part in value.strip("[]").split(",") if part.strip()]


names = several_of(lambda _, value: value)
