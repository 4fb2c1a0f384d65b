"""Names of tensors in the files of other projects, from `names.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml
from torch import Tensor

_TABLES = yaml.safe_load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8"))


def renamed(name: str, *tables: str) -> str:
    """The name of a tensor in the file that these tables of names.yaml describe, applied one after the other."""
    for table in tables:
        for pattern, place in _TABLES[table]["names"]:
            name = re.sub(pattern.replace(".", r"\."), place, name)
    return name


def rest_of(table: str) -> tuple[str, ...]:
    """Prefixes of names in a file that belong to other parts than its table describes."""
    return tuple(_TABLES[table]["rest"])


def in_pyramids(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a whole network of timm, also under their names in timm's three kinds of pyramid."""
    aliases = {
        alias: value
        for name, value in state.items()
        for alias in (name.replace(".", "_", 1), f"model.{name}", f"body.{name}")
    }
    return aliases | dict(state)
