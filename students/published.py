"""Published students: a network from a folder, a hub id or `zoo:NAME`; foreign code runs only with consent."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from inspect import Parameter, signature
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_model

from students.base import Student, whole
from students.config import REMEDY, locate, read_config
from students.registry import STUDENTS, code_of, resolve

LEARNED = "learned.json"  # in the folder: the keys of the images whose masks it was trained on
RECORD = "published.json"  # in the folder: the sha256 of each file, by name
# Entries of config.json that are not options of the class.
NO_ARGUMENTS = (
    *("student", "image_size", "mean", "std", "threshold", "region_threshold", "temperature"),
    *("run", "adapted", "calibrated", "code_sha256"),
)

logger = logging.getLogger("bandpass")


def load(source: str | Path, *, trust: str | None = None) -> Student:
    """A published student from a folder, a hub id or `zoo:NAME`, in eval mode and always in float32.

    Args:
        source: one of these.
        trust: the class, `my_nets:Net`, of a student that is not one of `STUDENTS`: consent to run its code.

    Raises:
        FileNotFoundError: there is no such folder, or it has no `config.json` or `model.safetensors`.
        ValueError: the student in config.json is not known or not consented to, config.json holds a value that is not
            allowed, a file is not as it was published, or the tensors are not the student's or not finite.
    """
    config = read_config(source)
    student = build(config, source, trust=trust)
    file = locate(source, "model.safetensors")
    for name in ("config.json", file.name):
        require_published(file.with_name(name))
    try:
        with whole(file):
            load_model(student, file, strict=True)
    except RuntimeError as error:  # torch's error for tensors that are missing, left over, or of another shape
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the weights of {source} are not those of student {config['student']!r} as this version of Bandpass and "
            f"its libraries build it: {reason[:400]}"
        ) from error
    check_finite(student, file)
    warn_edited(config, source)
    return student.eval()


def build(config: Mapping[str, Any], source: str | Path, *, trust: str | None = None) -> Student:
    """The network that config.json describes, with random weights.

    Args:
        config: the content of config.json, checked by `check_config`.
        source: the published student, as messages name it.
        trust: as for `load`.

    Raises:
        ValueError: as in `resolve_published`, or the class does not take the arguments in config.json.
    """
    kind = resolve_published(config["student"], source, trust=trust)
    parameters = signature(kind).parameters
    open_ended = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    arguments = {
        name: value for name, value in config.items() if name in parameters or (open_ended and name not in NO_ARGUMENTS)
    }
    try:
        return kind(**arguments)
    except Exception as error:  # a value of the wrong type or size may lead to any error
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise ValueError(
            f"config.json of {source} does not describe a student {config['student']!r}: {reason}; {REMEDY}"
        ) from error


def check_finite(student: Student, file: Path) -> None:
    """Refuses weights that are nan or infinite.

    Raises:
        ValueError: there are such weights; it names the file, the first tensor, and the number of such values in it.
    """
    for name, value in student.state_dict().items():
        if value.is_floating_point() and (wrong := int((~value.isfinite()).sum())):
            raise ValueError(
                f"{file} holds weights that are not numbers: {wrong} of {value.numel()} values of {name} are nan or "
                f"infinite; {REMEDY}"
            )


def warn_edited(config: Mapping[str, Any], source: str | Path) -> None:
    """Warns if the file that defines the class of a published student has changed since it was published."""
    file, recorded = code_of(config["student"]), config.get("code_sha256")
    if file and recorded and sha256_of(file) != recorded:
        logger.warning("%s has been edited since %s was published: its masks may differ", file, source)


def resolve_published(name: str, source: str | Path, *, trust: str | None = None) -> type[Student]:
    """The class that a published student names: one of the registry, or with consent one of the user's own.

    Args:
        name: as for `resolve`; it was chosen by the student's author.
        source: the place of the student.
        trust: the class whose code may run.

    Raises:
        ValueError: as in `resolve`; or there is no consent to run the code, it came with the student, or the student
            comes from the hub.
    """
    if name in STUDENTS or ":" not in name:
        return resolve(name)
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(source).expanduser().absolute()
    if not folder.is_dir() or is_within(folder, Path(HF_HUB_CACHE)):
        raise ValueError(
            f"{source} is a student of class {name!r}, but for a student from the hub only classes of the registry are "
            f"run ({', '.join(STUDENTS)}); if you have that class and trust it, download the student into a folder"
        )
    for file in files_of(name.partition(":")[0]):
        if is_within(file, folder):
            raise ValueError(
                f"{source} is a student of class {name!r}, whose code came with it and is not run: {file}; if you "
                "trust it, move the code out of that folder"
            )
        if trust != name:  # stop here, since the search goes on by importing the packages of the module
            break
        logger.info("%s runs code of %s: %s", source, name, file)
    if trust != name:
        raise ValueError(
            f"{source} is a student of class {name!r}, which is not one of Bandpass's ({', '.join(STUDENTS)}), and "
            f"loading it runs its code; {f'got trust={trust}; ' if trust else ''}if you trust it, type trust={name} "
            f"(in a recipe student.name={name}, or model={name} of a teacher)"
        )
    return resolve(name)


def is_within(path: Path, folder: Path) -> bool:
    """Whether an absolute path lies in a folder or passes through it by links."""
    inside = folder.resolve()
    return any(step.resolve().is_relative_to(inside) for step in (path, *path.parents))


def files_of(module: str) -> Iterator[Path]:
    """The files that importing a module runs, its packages first, links unresolved; each is yielded before it runs."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        try:
            found = find_spec(".".join(parts[:length]))
        except (ImportError, ValueError):  # `resolve` raises it with a message
            return
        if found is not None and found.has_location and found.origin is not None:
            yield Path(found.origin).absolute()


def sha256_of(file: Path) -> str:
    """The sha256 (hex) of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def require_published(file: Path) -> None:
    """Refuses a file of a published folder that has changed since, if `RECORD` beside it has the file's sha256.

    Raises:
        ValueError: the file has changed; the message names it and says what to do.
    """
    try:
        recorded = json.loads(file.with_name(RECORD).read_text(encoding="utf-8"))["sha256"][file.name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # no record, a damaged one, or without this file
        return
    if recorded != (found := sha256_of(file)):
        raise ValueError(
            f"{file} is not as it was published (expected sha256 {str(recorded)[:12]}, as {RECORD} beside it records, "
            f"got {found[:12]}); {REMEDY}, or remove {RECORD} if you changed the file yourself"
        )


def learned_keys(folder: Path) -> list[str] | None:
    """The keys of the images whose masks a published student was trained on; None if its folder has no such list.

    Raises:
        ValueError: the list cannot be read, or is not the one that was published.
    """
    path = folder / LEARNED
    if not path.exists():
        return None
    if not path.is_file():
        raise ValueError(f"{path} is not a file; {REMEDY}")
    require_published(path)
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))["labelled"]
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise TypeError(f"labelled is {str(keys)[:80]}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has no list of keys under labelled ({error}); {REMEDY}") from error
    return keys


def licence_of(source: str | Path) -> str | None:
    """The licence (all terms) on the card of a student in a folder, the zoo or on the hub; None if there is none."""
    try:
        card = locate(source, "README.md").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    try:
        front = yaml.safe_load(card.split("\n---", 1)[0].removeprefix("---")) if card.startswith("---\n") else {}
    except (yaml.YAMLError, RecursionError):
        return None
    if not isinstance(front, dict) or not (licence := front.get("license_name") or front.get("license")):
        return None
    return (terms_on(card) if front.get("license") == "other" else "") or str(licence)


def terms_on(card: str) -> str:
    """The terms in the table of a card, each in brackets after what it covers; empty if there is no such table."""
    _, _, rest = card.partition("\n| made from | licence or terms |\n| --- | --- |\n")
    rows = takewhile(lambda line: line.startswith("| "), rest.splitlines())
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows]
    return "; ".join(re.sub(r"\\(.)", r"\1", f"{row[1]} ({row[2]})") for row in cells if len(row) > 2)
