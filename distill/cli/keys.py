"""`distill keys [PREFIX]`: the keys of a recipe."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from distill.cli.options import Command, Option, table
from distill.config.keys import describe_keys, elsewhere


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Writes every key that begins with the prefix, with its default and meaning.

    Raises:
        ValueError: no key does.
    """
    del dry  # it writes to the terminal only
    chosen = [
        (f"{key}={default}", meaning) for key, default, meaning in describe_keys() if key.startswith(given.prefix)
    ]
    if not chosen:
        near = elsewhere(given.prefix)
        hint = f"did you mean {near!r}?" if near else "distill keys lists all"
        raise ValueError(f"no key of a recipe begins with {given.prefix!r}; {hint}")
    sys.stdout.write("\n".join(table(chosen)) + "\n")
    return 0


COMMAND = Command(
    "keys",
    run,
    does="Lists the keys of a recipe with their defaults; NAME stands for a name that a recipe gives. A recipe sets "
    "values of its own; on the command line, write key=value, and lists with commas: do=extract,train.",
    options=(Option("prefix", "how the keys begin; empty: all", default=""),),
    examples=("distill keys", "distill keys stages", "distill keys optimiser.learning_rate"),
    bare="prefix",
)
