"""Names of a run's caches and folder, which end with a digest of their settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cache
from distill.config.schema import Recipe
from distill.runs.fingerprint import digest_file, fingerprint_features, fingerprint_run


@dataclass(frozen=True)
class CacheName:
    """The place of a teacher's features, and the name of their content for what is made from them."""

    path: Path
    content: str


def name_caches(
    recipe: Recipe, calibration: Mapping[str, list[str]], *, home: Path, made: Mapping[str, str]
) -> dict[str, CacheName]:
    """Teacher -> its cache, for every teacher that the recipe consults.

    `calibration` has the keys of the records on which each teacher's code is fitted, `made` the digests of the
    runs that make a teacher.

    Raises:
        FileNotFoundError: a cache that the recipe names does not exist.
    """
    names: dict[str, CacheName] = {}
    for name, teacher in recipe.consulted.items():
        if teacher.cache:
            names[name] = given_cache(Path(teacher.cache).expanduser(), teacher=name)
        else:
            source = names[teacher.of].content if teacher.of in names else ""
            digest = fingerprint_features(
                teacher,
                fidelity=recipe.cache.fidelity,
                calibration=calibration[name],
                shells=recipe.cache.shells,
                source=source,
                made=made.get(name, ""),
            )
            title = re.sub(r"[^\w.-]", ".", teacher.model or teacher.adapter)  # a recipe may give any name
            content = f"{title}-{digest[:12]}"
            names[name] = CacheName(home / "features" / content, content)
    return names


def given_cache(folder: Path, *, teacher: str) -> CacheName:
    """A cache that the recipe names, identified by its manifest, not by its folder.

    Raises:
        FileNotFoundError: there is no cache.
    """
    if not cache.exists(folder):
        raise FileNotFoundError(f"teachers.{teacher}.cache={folder} holds no cache (no manifest.json)")
    return CacheName(folder, digest_file(folder / "manifest.json"))


def run_folder(recipe: Recipe, splits: str, caches: dict[str, CacheName], *, home: Path) -> Path:
    """The folder of a run, `runs/RECIPE-STUDENT-DIGEST`; `splits` is the digest of its images."""
    contents = {name: entry.content for name, entry in caches.items()}
    digest = fingerprint_run(recipe, splits=splits, caches=contents)
    return home / "runs" / f"{recipe.name}-{recipe.student.name.replace(':', '.')}-{digest[:12]}"
