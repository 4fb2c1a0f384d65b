"""Names for artefacts: digests of what was asked for and of the files it was asked of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from distill.recipe import Recipe, TeacherRecipe

# What does not change the trained weights, or is a place rather than a content, is no part of a run's identity.
NOT_IDENTITY = ("home", "do", "workers", "trackers", "publish", "arms")


def digest_of(value: Any) -> str:  # noqa: ANN401
    """The sha256 (hex) of a JSON-able value, keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """The sha256 (hex) of a file's bytes; read once a process while size and time of change stay the same."""
    status = path.stat()
    return _digest_bytes(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_bytes(path: str, size: int, changed: int) -> str:
    del size, changed  # they are the memo's key
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(weights: str | None) -> str:
    """What stands for weights in a digest: the content of a local file or folder, else the hub id itself."""
    path = Path(str(files("teachers") / "builtin")) if weights == "builtin" else Path(weights or "").expanduser()
    if weights and path.is_file():
        return digest_file(path)
    if weights and path.is_dir():
        parts = [file for file in sorted(path.iterdir()) if file.name == "config.json" or file.suffix == ".safetensors"]
        return digest_of([(file.name, digest_file(file)) for file in parts])
    return f"hub:{weights}"


def digest_features(teacher: TeacherRecipe, *, fidelity: float, calibration: list[str]) -> str:
    """Names a teacher's cache: what looks, at how many pixels, in which views, coded how and fitted on what.

    Args:
        teacher: the teacher's part of the recipe.
        fidelity: the cosine the code was asked for.
        calibration: keys of the images on which the code's statistics are fitted.
    """
    asked = dataclasses.asdict(teacher)
    for place in ("weights", "cache", "batch_size", "licence"):
        asked.pop(place)
    return digest_of([asked, fingerprint(teacher.weights), fidelity, sorted(calibration)])


def digest_run(recipe: Recipe, *, splits: str, caches: dict[str, str]) -> str:
    """Names a run: the recipe without places, the images and masks of each split, the caches learned from.

    Args:
        recipe: the resolved recipe.
        splits: `Splits.digest()`.
        caches: digest of each teacher's cache; ignored where the recipe imitates nothing.
    """
    asked = dataclasses.asdict(recipe)
    for place in NOT_IDENTITY:
        asked.pop(place)
    for place in ("root", "split", "memory_gb", "skip_bad"):
        asked["data"].pop(place)
    asked["evaluate"].pop("bootstrap")
    asked.pop("teachers"), asked.pop("cache")
    asked["student"]["init"] = fingerprint(recipe.student.init) if recipe.student.init else None
    if not recipe.imitates:
        asked.pop("imitate")
        caches = {}
    return digest_of([asked, splits, caches])
