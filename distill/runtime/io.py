"""Writing artefacts: a reader sees a whole file or none, and what a killed writer left behind is swept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.files import write_whole


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file as a whole; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path.parent, path.name, data)


def write_text(path: Path, text: str) -> None:
    """Replaces a UTF-8 text file as a whole."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a JSON file as a whole."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
