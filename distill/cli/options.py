"""The arguments of a command, declared once: the reading of its words, their errors and its `--help` follow."""

from __future__ import annotations

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

Read = Callable[[str, str], Any]  # key, text as typed -> value; raises ValueError


@dataclass(frozen=True)
class Option:
    """A key of a command's own.

    Attributes:
        name: the key.
        meaning: what it sets, with its unit.
        shown: what stands for its value in help, `DIR`; the default where there is one.
        default: where it is not given.
        read: makes a value of the text that was typed.
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
        run: called with what `read` returns, and `dry`: only to say what would be done; returns the exit status.
        does: sentences: what it does.
        writes: a line for each thing that it writes.
        options: its own keys.
        keys: those keys of `schema` that help shows, `KEY` with its default or `KEY=SHOWN`.
        schema: of further keys: a recipe's, for a command that takes a recipe; None where there are none.
        examples: commands.
        needs: words of the schema that the usage shows, `recipe=NAME`.
        bare: the key that a word without `=` is the value of, as in `distill keys stages`.
        further: whether it takes keys beside its options although they are of no schema.
        more: lines for help about those.
        continues: whether a second call goes on where a first one was ended.
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
        """The command in a line; what may be left out is in brackets."""
        words = {o.name: o.name.upper() if o.name == self.bare else f"{o.name}={o.shown}" for o in self.options}
        own = [words[o.name] if o.required else f"[{words[o.name]}]" for o in self.options]
        return " ".join(
            [f"distill {self.name}", *self.needs, *own, *(["[key=value ...]"] if self.schema or self.further else [])]
        )

    def read(self, words: Sequence[str]) -> SimpleNamespace:
        """The values of the command's own keys, by name; `rest` has the words of all other keys, `words` all.

        Raises:
            ValueError: a word that is no key=value, an unknown key, one that is given twice or missing, a wrong value.
        """
        known = {option.name: option for option in self.options}
        words = [f"{self.bare}={word}" if self.bare and "=" not in word else word for word in words]
        takes_more = self.further or self.schema is not None
        own = [word for word in words if not takes_more or word.partition("=")[0] in known]
        given = split_words(own)
        for key in given:
            if key not in known:
                choices = f"choose from {', '.join(known)}" if known else "it takes none"
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
        usage = wrap(self.usage, 110, subsequent_indent=8 * " ", break_long_words=False, break_on_hyphens=False)
        lines = [*usage, "", *wrap(self.does, 110), ""]
        if self.writes:
            lines += ["Writes", *(f"  {line}" for line in self.writes), ""]
        if self.options:
            lines += ["Keys", *table((f"{o.name}={o.shown}", o.meaning) for o in self.options), ""]
        if self.keys:
            lines += ["Keys of the recipe, with defaults (a recipe sets its own)" if self.schema is Recipe else "Keys"]
            lines += [*table(self.shown_keys()), *(["  all keys: distill keys"] if self.schema is Recipe else []), ""]
        if self.more is not None:
            lines += [*self.more(), ""]
        return "\n".join([*lines, "Examples", *(f"  {example}" for example in self.examples)]) + "\n"

    def shown_keys(self) -> list[tuple[str, str]]:
        """(`key=default`, meaning) of the keys of the schema that help shows."""
        assert self.schema is not None
        known = {key: (default, meaning) for key, default, meaning in describe_keys(self.schema)}
        shown = [(key, placeholder) for key, _, placeholder in (entry.partition("=") for entry in self.keys)]
        return [(f"{key}={placeholder or known[key][0]}", known[key][1]) for key, placeholder in shown]


def table(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Rows of a word and its meaning as lines, meanings below one another and wrapped at 110 columns."""
    rows = list(rows)
    width = min(36, max((len(word) for word, _ in rows), default=0))
    lines = []
    for word, meaning in rows:
        first, *more = wrap(meaning, 106 - width) or [""]
        lines += [f"  {word:<{width}}  {first}".rstrip(), *(f"  {'':<{width}}  {line}" for line in more)]
    return lines


def split_words(words: Sequence[str]) -> dict[str, str]:
    """`["a=1", "b=x,y"]` as key -> value; a value is taken as it stands, commas and all.

    Raises:
        ValueError: a word that is no `key=value`, or a key that is given twice.
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
        ValueError: it is none.
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
    """Reads a whole number from `least` on, to `most` where given."""

    def read(key: str, value: str) -> int:
        if not value.isdecimal() or len(value) > 18 or int(value) < least or (most is not None and int(value) > most):
            limits = f"from {least} on" if most is None else f"from {least} to {most}"
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
    """Reads values with commas between them, in brackets or not; they may hold spaces."""
    return lambda key, value: [read(key, part.strip()) for part in value.strip("[]").split(",") if part.strip()]


names = several_of(lambda _, value: value)
