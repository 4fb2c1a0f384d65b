"""The command to type next, for messages: the words that were typed, with another verb."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

_typed: list[str] = []


def remember_words(words: Sequence[str]) -> None:
    """Keeps the words of this command line, except `do`, for the command to type next."""
    _typed[:] = [word for word in words if not word.startswith("do=")]


def command_for(verb: str) -> str:
    """`distill VERB recipe=... key=value ...` with the words that were typed; `recipe=NAME` if none were."""
    return shlex.join(["distill", verb, *(_typed or ["recipe=NAME"])])


def command_to_predict(run: Path, student: str) -> str:
    """`distill predict student=RUN ...`, with `trust` if the student's class is the user's own (`module:Class`)."""
    trust = [f"trust={student}"] if ":" in student else []
    return shlex.join(["distill", "predict", f"student={run}", *trust, "images=DIR", "out=masks"])
