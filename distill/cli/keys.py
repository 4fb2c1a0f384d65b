"""`distill keys [PREFIX]`: the keys of a recipe."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from distill.cli.options import Command, Option, table
from distill.config.keys import describe_keys, elsewhere


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Writes every key that begins with the prefix, with its default and meaning.

    Raises:
        ValueError: none does.
    """
    del dry  # it writes nothing but to the terminal
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
    does="Lists the keys of a recipe with their defaults; NAME stands for what a recipe names. A recipe sets its own "
    "values; on the command line they are given as key=value, lists with commas: do=extract,train.",
    options=(Option("prefix", "how the keys begin; empty: all", default=""),),
    examples=("distill keys", "distill keys stages", "distill keys optimiser.learning_rate"),
    bare="prefix",
)
