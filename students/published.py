"""Published students: a folder or a hub id becomes a network again; whoever made it does not choose what code runs."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from students.base import Student, whole
from students.registry import STUDENTS, resolve

LEARNED = "learned.json"  # in the folder: the keys of the images whose masks were learned from
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

logger = logging.getLogger("bandpass")


def load(source: str | Path) -> Student:
    """A published student from a folder or a hub id, in eval mode.

    Raises:
        FileNotFoundError: there is no such folder, or none with `config.json`.
        ValueError: the student named there is not known or brings its own code, or its tensors are not those of the
            file.
    """
    config = read_config(source)
    kind = resolve_published(config["student"], source)
    folder = Path(source).expanduser()
    place = str(folder) if folder.is_dir() else str(source)
    try:
        with whole(Path(place) / "model.safetensors"):
            return kind.from_pretrained(place, strict=True).eval()
    except RuntimeError as error:  # torch's, of tensors that are missing, left over, or of another shape
        told = " ".join(str(error).split())
        raise ValueError(
            f"the weights of {source} are not those of student {config['student']!r} as this version of Bandpass and "
            f"its libraries build it: {told[:400]}"
        ) from error


def read_config(source: str | Path) -> dict[str, Any]:
    """The config.json of a published student in a folder or on the hub.

    Raises:
        FileNotFoundError: there is no such folder, or none with `config.json`.
        ValueError: it is no JSON, or names no student.
    """
    path = _config_of(source)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also of bytes that are no text
        raise ValueError(f"{path} is not JSON ({error}); download or publish the student again") from error
    if not isinstance(config, dict) or not isinstance(config.get("student"), str):
        raise ValueError(f"{source} is no student that Bandpass published: its config.json names no student")
    return config


def _config_of(source: str | Path) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"expected a published student with config.json in {folder}, found none")
        return folder / "config.json"
    if not HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(f"no published student at {source}: no such folder, and no hub id (owner/name)")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(source), "config.json"))
    except Exception as error:  # of the hub's client and of what it fetches with: they change by version
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise FileNotFoundError(
            f"no published student at {source}: no such folder, and as a hub id it cannot be fetched: {told}"
        ) from error


def resolve_published(name: str, source: str | Path) -> type[Student]:
    """The class that a published student names: of the registry, or of the user's own, whose code then runs.

    Args:
        name: as for `resolve`.
        source: where the student is; whoever made it must not choose what code runs.

    Raises:
        ValueError: as `resolve`, or the code would come with the student, or the student from the hub.
    """
    if name in STUDENTS or ":" not in name:
        return resolve(name)
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(source).expanduser().resolve()
    if not folder.is_dir() or folder.is_relative_to(Path(HF_HUB_CACHE).resolve()):
        raise ValueError(
            f"{source} is a student of class {name!r}, but of a student from the hub only those of the registry are "
            f"run ({', '.join(STUDENTS)}); if you have that class and trust it, download the student into a folder"
        )
    for file in files_of(name.partition(":")[0]):
        if file.is_relative_to(folder):
            raise ValueError(
                f"{source} is a student of class {name!r}, whose code came with it and is not run: {file}; if you "
                "trust it, move the code out of that folder"
            )
        logger.info("%s runs code of %s: %s", source, name, file)
    return resolve(name)


def files_of(module: str) -> Iterator[Path]:
    """The files that importing a module runs, those of its packages first; each is told before it is run."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        try:
            found = find_spec(".".join(parts[:length]))
        except (ImportError, ValueError):  # `resolve` says what is wrong with it
            return
        if found is not None and found.has_location and found.origin is not None:
            yield Path(found.origin).resolve()


def learned_keys(folder: Path) -> list[str] | None:
    """The keys of the images whose masks a published student learned from; None where its folder does not say."""
    path = folder / LEARNED
    return json.loads(path.read_text(encoding="utf-8"))["labelled"] if path.is_file() else None


def said_licence(folder: Path) -> str | None:
    """What the front matter of a student's card (README.md) says of its licence; None where it says nothing."""
    path = folder / "README.md"
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    front = yaml.safe_load(card.split("\n---", 1)[0].removeprefix("---")) if card.startswith("---\n") else {}
    said = front.get("license_name") or front.get("license")
    return str(said) if said else None
