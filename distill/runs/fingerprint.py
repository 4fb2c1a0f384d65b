"""Fingerprints of caches and runs: digests of their settings and input files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from distill.config.keys import default_of
from distill.config.schema import Recipe, TeacherRecipe
from distill.runtime.io import digest_of_file, read_json_if_sound
from students.catalogue import place_of
from students.registry import code_of

# Settings that do not change the trained weights, or are places, are not part of a run's identity.
NOT_IDENTITY = ("name", "home", "do", "workers", "trackers", "publish", "arms", "sweep")
OF_SERVING = (
    "threshold",
    "region_threshold",
    "temperature",
    "run",
    "adapted",
    "calibrated",
)  # entries of a published student's config.json
SETTINGS = ("config.json", "preprocessor_config.json")  # beside weights: of the network, and of its pixels
OF_PLACE = ("weights", "cache", "of", "recipe", "overrides", "seeds")  # of a teacher; digests stand for them
DEFAULTS = 1  # of the schema: raise it when a default changes, so that old artefacts are not taken for new ones


def essence(part: Any) -> Any:  # noqa: ANN401
    """The fields of a recipe (or a part of one) that differ from the defaults, as plain data, in order.

    A setting that a later version adds therefore keeps the names of older artefacts.
    """
    if isinstance(part, dict):
        return [[name, essence(value)] for name, value in part.items()]
    if not dataclasses.is_dataclass(part):
        return part
    asked = {}
    for field in dataclasses.fields(part):
        if (value := getattr(part, field.name)) != default_of(field):
            asked[field.name] = essence(value)
    return asked


def digest_of(value: Any) -> str:  # noqa: ANN401
    """The sha256 (hex) of a JSON-able value, keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """The sha256 (hex) of a file's bytes, read once per process while its size and times of change stay the same."""
    status = path.stat()
    return _digest_bytes(str(path), status.st_size, (status.st_mtime_ns, status.st_ctime_ns))


@lru_cache(maxsize=64)
def _digest_bytes(path: str, size: int, changed: tuple[int, int]) -> str:
    del size, changed  # they are the cache key of lru_cache
    with Path(path).open("rb") as file:
        return digest_of_file(file)


def digest_weights(weights: str | None, *, served: bool = False) -> str:
    """The digest of weights: of the content of a local file, a folder or a zoo student; for a hub id, the id itself.

    Args:
        weights: as a recipe names them.
        served: whether thresholds and temperature of a published student count too, because masks depend on them.
    """
    builtin = str(files("teachers") / "builtin")
    path = Path(builtin if weights == "builtin" else place_of(weights or "")).expanduser()
    digest = digest_file if served else digest_learned
    if weights and path.is_file():
        beside = [file for name in SETTINGS if (file := path.with_name(name)).is_file()]
        return digest_of([digest(file) for file in (path, *beside)]) if beside else digest_file(path)
    if weights and path.is_dir():
        parts = [file for file in sorted(path.iterdir()) if file.name in SETTINGS or file.suffix == ".safetensors"]
        if not parts:  # an ensemble's folder of folders
            return digest_of([(sub.name, digest_weights(str(sub))) for sub in sorted(path.iterdir()) if sub.is_dir()])
        return digest_of([(file.name, digest(file)) for file in parts])
    if weights and "," in weights:  # an ensemble
        return digest_of([digest_weights(place.strip()) for place in weights.split(",")])
    return f"hub:{weights}"


def digest_learned(file: Path) -> str:
    """The digest of a file of weights; for a calibrated student's config.json, without entries for serving.

    A student that is published again with another threshold therefore keeps the names of what was made from it.
    """
    config = read_json_if_sound(file) if file.name == "config.json" else {}
    if "temperature" not in config:
        return digest_file(file)
    return digest_of({name: value for name, value in config.items() if name not in OF_SERVING})


def source_of(name: str) -> list[str]:
    """The digest of the file that defines a user's own class (`module:Class`), as a list; empty for other classes.

    An edited network is therefore trained anew, and an edited teacher extracted anew. Imports do not count.
    """
    file = code_of(name)
    return [digest_file(file)] if file else []


def fingerprint_features(
    teacher: TeacherRecipe,
    *,
    fidelity: float,
    calibration: list[str],
    shells: bool = False,
    source: str = "",
    made: str = "",
) -> str:
    """The digest that names a teacher's cache: teacher, pixels, views, kind of code and calibration images.

    Args:
        teacher: the teacher's part of the recipe.
        fidelity: the requested cosine.
        calibration: keys of the images on which the code's statistics are fitted.
        shells: `cache.shells`.
        source: the cache that a task teacher reads; empty for a teacher that sees images.
        made: the digests of the runs that make its weights; empty if weights are given.
    """
    asked = essence(teacher)
    for place in (*OF_PLACE, "batch_size", "licence", "weight", "drop", "mirror"):
        asked.pop(place, None)
    content = [DEFAULTS, asked, made or digest_weights(teacher.weights), fidelity, sorted(calibration)]
    kind = ["shells"] if shells else []
    return digest_of([*content, *source_of(teacher.adapter), *([source] if source else []), *kind])


def fingerprint_run(recipe: Recipe, *, splits: str, caches: dict[str, str]) -> str:
    """The digest that names a run: its settings (without places, idle stages and the recipe's name), images and caches.

    Args:
        recipe: the resolved recipe.
        splits: `Splits.digest`.
        caches: teacher -> the name of its cache's content, for each consulted teacher.
    """
    asked = essence(recipe)
    for place in (*NOT_IDENTITY, "teachers", "cache", *(() if recipe.imitates else ("imitate",))):
        asked.pop(place, None)
    data = asked.get("data", {})
    for place in ("root", "split", "memory_gb", "skip_bad", "unlabelled"):
        data.pop(place, None)
    asked.get("evaluate", {}).pop("bootstrap", None)
    shares = {name: [entry.weight, entry.drop] for name, entry in recipe.consulted.items() if recipe.imitates}
    if changed := {name: share for name, share in shares.items() if share != [1.0, 0.0]}:
        asked["heard"] = changed  # the word in older runs
        if any(drop for _, drop in changed.values()):
            asked["dropped"] = "systematically"  # older runs drew otherwise
    given = [name for name, entry in recipe.consulted.items() if entry.cache]  # their names do not include the views
    views = recipe.augment.views
    if mirrored := [name for name in given if any(recipe.view_read(name, view) != view for view in views)]:
        asked["mirrored"] = mirrored
    asked["stages"] = essence({name: stage for name, stage in recipe.stages.items() if stage.runs})
    for place in ("init", "encoder"):
        if weights := getattr(recipe.student, place):
            asked["student"][place] = digest_weights(weights)
    return digest_of([DEFAULTS, asked, splits, caches, *source_of(recipe.student.name)])
