"""`distill recipes`: the recipes that come with Bandpass, one line each."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import recipes
from distill.cli.options import Command


def run(_: SimpleNamespace, *, dry: bool) -> int:
    """Prints the name of every recipe and the first sentence of its file."""
    del dry  # it writes to the terminal only
    width = max(map(len, recipes.names()))
    sys.stdout.write("".join(f"{name:<{width}}  {story(name)}\n" for name in recipes.names()))
    return 0


def story(name: str) -> str:
    """The first sentence of a recipe file's leading comment."""
    text = (recipes.FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n#\n")[0]
    return re.split(r"(?<=[.?!])\s", text.replace("\n# ", " ").removeprefix("# "), maxsplit=1)[0]


COMMAND = Command(
    "recipes",
    run,
    does="Lists the recipes. recipe= takes one of these names, or a YAML file, which may extend one of them.",
    examples=("distill recipes", "distill run recipe=sam_to_unet"),
)
