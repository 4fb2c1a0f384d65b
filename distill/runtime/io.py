"""Reading and writing files: a reader sees a whole file or none; errors on damaged files say what to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from cache.files import write_whole

SEAL = "content_sha256"  # entry of a JSON file of a run: the digest of all others


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file as a whole; its folder is created if necessary."""
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Replaces a file as a whole by bytes given in parts; its folder is created if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path.parent, path.name, parts)


def write_text(path: Path, text: str) -> None:
    """Replaces a UTF-8 text file as a whole."""
    write_bytes(path, text.encode("utf-8"))


def digest_of_file(file: BinaryIO) -> str:
    """The sha256 (hex) of an open file from its current position."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a JSON file as a whole."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a JSON file as a whole, adding a digest of its content, which `read_json` checks."""
    seal = seal_of(value)
    write_json(path, {**{name: part for name, part in value.items() if name != SEAL}, SEAL: seal})


def seal_of(value: Mapping[str, Any]) -> str:
    """The sha256 (hex) of a JSON object with sorted keys, without the entry for the digest itself."""
    content = {name: part for name, part in value.items() if name != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_json(path: Path, *, cure: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: of the file.
        cure: what to do about a damaged file, as the end of a sentence.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not hold a JSON object, or not the one that `write_sealed` wrote.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, IsADirectoryError) as error:
        reason = "it is a folder" if path.is_dir() else error
        raise ValueError(f"{path} is damaged ({reason}); {cure}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged (expected a JSON object, got {type(value).__name__}); {cure}")
    if value.get(SEAL, own := seal_of(value)) != own:
        raise ValueError(f"{path} is damaged (expected content of sha256 {value[SEAL]!s:.12}, got {own[:12]}); {cure}")
    return value


def read_json_if_sound(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is missing or damaged."""
    try:
        return read_json(path, cure="")
    except (OSError, ValueError):
        return {}
