"""Bad inputs, collected into one message before any training starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

SHOWN = 10  # sentences in one error; the rest is counted


def nearest(name: str, choices: Iterable[str]) -> str:
    """The words `; did you mean 'x'?` for the choice that looks most like `name`, or nothing."""
    found = get_close_matches(name, sorted(choices), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def several(count: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with aligned columns; the last column is not padded."""
    widths = [max(map(len, column)) for column in [*zip(*rows, strict=True)][:-1]]
    return ["  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows]


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its class if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def printable(text: object) -> str:
    r"""A text with names of files, made safe for a terminal or a table: on one line and valid UTF-8.

    Control characters (which begin escape sequences) and bytes that are not UTF-8 become escapes: `\x1b`, `\xe9`.
    """
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in str(text))


def _escaped(sign: str) -> str:
    return f"\\x{ord(sign) - 0xDC00:02x}" if "\udc80" <= sign <= "\udcff" else ascii(sign)[1:-1]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: a sentence that names the file and the remedy."""

    kind: str
    sentence: str
    fatal: bool  # leaving out one image does not fix it


@dataclass
class Problems:
    """Everything found wrong with the data under `where`."""

    where: str
    found: list[Problem] = field(default_factory=list)

    @property
    def many(self) -> bool:
        """Whether further sentences will not be shown, so that a costly hint is not needed."""
        return len(self.found) >= SHOWN

    def add(self, kind: str, sentence: str, *, fatal: bool = False) -> None:
        """Records one problem; its sentence is made `printable`, whatever file names it holds.

        Args:
            kind: a few words by which left-out images are counted, `missing mask`.
            sentence: the file, what is wrong with it, and what to do.
            fatal: whether `data.skip_bad=true` does not help.
        """
        self.found.append(Problem(kind, printable(sentence), fatal))

    def settle(self, *, skip: bool) -> list[str]:
        """Raises one ValueError for all problems, or returns the notes on what was left out.

        Args:
            skip: `data.skip_bad`: leave out images with a problem; fatal problems are still raised.
        """
        serious = [problem for problem in self.found if problem.fatal or not skip]
        if serious:
            raise ValueError(self._message(serious))
        counts = Counter(problem.kind for problem in self.found)
        first = {problem.kind: problem.sentence for problem in reversed(self.found)}
        return [
            f"data.skip_bad=true left out {count} ({kind}): {first[kind]}"
            + (f"; and {count - 1} more" if count > 1 else "")
            for kind, count in counts.items()
        ]

    def _message(self, serious: list[Problem]) -> str:
        lines = [problem.sentence for problem in sorted(serious, key=lambda problem: not problem.fatal)]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        head = f"found {several(len(lines), 'problem')} in {self.where}:"
        tail = "fix them"
        if not all(problem.fatal for problem in serious):
            tail += ", or go on without these images by data.skip_bad=true"
        if any(problem.fatal for problem in serious) and "skip_bad" in tail:
            tail += " (which does not help if a whole data set or the split is wrong)"
        return "\n  ".join([head, *lines[:SHOWN], *more]) + f"\n{tail}"
