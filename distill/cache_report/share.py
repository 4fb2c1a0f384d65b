"""Sharing a cache: a folder for the hub, from which a student learns without the teacher."""

from __future__ import annotations

import json
from pathlib import Path

import cache
from cache.files import read_inside, write_whole
from cache.manifest import LARGEST, NAME
from cache.reader import LARGEST_CODEC
from cache.schema import codec_file
from distill.cache_report.report import markdown, report

SPDX = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc0-1.0"}
"""Licences that the hub knows by these names; there, others are "other"."""


def copy_cache(source: Path, target: Path) -> cache.Cache:
    """Copies a cache file by file, statistics and manifest first, and verifies the copy; continues after a kill.

    Shards that exist already are not copied again.

    Args:
        source: a cache in which `cache.verify` finds nothing.
        target: a folder, created if necessary. A cache in it must be the same one, but may hold other shards.

    Raises:
        ValueError: the source or the copy is damaged, or the target holds another cache.
        FileNotFoundError: there is no cache in `source`.
    """
    _require_whole(source)
    store = cache.open(source)
    target.mkdir(parents=True, exist_ok=True)
    if cache.exists(target) and cache.open(target).manifest.digest != store.manifest.digest:
        raise ValueError(f"{target} holds another cache than {source}; choose another folder with out=DIR")
    with cache.lock(target):
        # No name comes from the files: codecs are named after their maps, shards match the pattern of their names.
        for name in sorted(map(codec_file, store.spec.names)):
            write_whole(target, name, read_inside(source, name, limit=LARGEST_CODEC))
        if not cache.exists(target):
            write_whole(target, NAME, read_inside(source, NAME, limit=LARGEST))
        for shard in store.shards:
            if not (target / shard.path.name).is_file():
                data = read_inside(source, shard.path.name, limit=shard.nbytes)
                write_whole(target, shard.path.name, data, sweeping=False)
    _require_whole(target)
    return cache.open(target)


def _require_whole(folder: Path) -> None:
    if problems := [problem for problem in cache.verify(folder) if problem.kind != "foreign"]:
        raise ValueError(
            f"{folder} is damaged: {problems[0]}; distill extract with the recipe that made it repairs it. If you were "
            "given the cache, get that file again (distill cache do=verify cache=DIR lists all problems)"
        )


def readme(store: cache.Cache) -> str:
    """The README of a shared cache: front matter for the hub, contents, terms, and how to learn from it."""
    licence = store.licence.lower()
    front = (
        [f"license: {licence}"] if licence in SPDX else ["license: other", f"license_name: {json.dumps(store.licence)}"]
    )
    identity = json.dumps(store.identity, indent=1, sort_keys=True)
    return "\n".join(
        [
            "---",
            *front,
            "tags: [feature-cache, knowledge-distillation, bandpass]",
            "---",
            "",
            markdown(report(store)),
            "## Contents",
            "",
            "Features of a vision foundation model on a set of images, in Bandpass's frequency code. The cache does",
            "not hold the images; it identifies them by the sha256 of their files, and training needs the same images.",
            "The licences of the teacher's weights and of the images decide whether features may be shared.",
            *(f"* {name}: {terms}" for name, terms in sorted(store.manifest.terms.items())),
            "",
            "## Use",
            "",
            "```",
            "distill cache do=import cache=THIS_FOLDER out=artifacts/features/NAME",
            "distill train recipe=NAME teachers.NAME.cache=artifacts/features/NAME data.root=DIR",
            "```",
            "",
            "## Identity",
            "",
            "```json",
            identity,
            "```",
            "",
        ]
    )
