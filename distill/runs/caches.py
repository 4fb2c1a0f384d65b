"""Opening a run's caches, with checks that each holds what is read, and nothing of held-out images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cache
from cache.spec import MASK
from distill.config.command import command_for
from distill.data.prompts import check_cached_prompts, record_key, record_keys
from distill.data.sample import key_pairs_of, keys_of
from distill.runs.run import Run
from distill.runtime.issues import several

logger = logging.getLogger("bandpass")


def open_caches(run: Run, *, learning: bool = True) -> dict[str, cache.Cache]:
    """The caches that a run reads, each checked to hold what is read.

    Args:
        run: the run.
        learning: whether to check every training image in every view; else every validation and test image as it is.

    Raises:
        FileNotFoundError: a cache is missing or incomplete.
        ValueError: a cache was fitted on images that this run validates or tests on, or its teacher learned from
            masks that are hidden here.
    """
    opened: dict[str, cache.Cache] = {}
    held_out = keys_of(run.splits.held_out)
    for name, path in run.caches.items():
        teacher = run.recipe.teachers[name]
        cure = "give another cache" if teacher.cache else f"type {command_for('extract')} first"
        if not cache.exists(path):
            raise FileNotFoundError(f"no features of teacher {name!r} at {path}; {cure}")
        store = opened[name] = cache.open(path)
        if leaked := len(held_out.intersection(store.calibration)):
            raise ValueError(
                f"{path} was fitted on {leaked} images that are validation or test here; {cure}, or another split"
            )
        check_labels(run, path, store)
        wanted = read_records(run, name, learning=learning)
        check_cached_prompts(teacher, store.identity.get("prompts", ""), folder=path)
        if missing := store.missing(wanted):
            raise FileNotFoundError(
                f"{path} lacks {len(missing)} of {len(wanted)} records (images times views) of teacher {name!r}, "
                f"{describe_missing(run, name, store, missing)}; {cure}"
            )
    return opened


def describe_missing(run: Run, name: str, store: cache.Cache, missing: Sequence[tuple[str, str]]) -> str:
    """The number of images and the views of missing records, with one example, and damaged shards."""
    keys, views = {key for key, _ in missing}, dict.fromkeys(view for _, view in missing)
    stems = {record_key(run.recipe.teachers[name], sample): sample.stem for sample in run.splits.training}
    stems |= {sample.key: sample.stem for sample in run.splits.held_out}
    damaged = len([*store.path.glob("shard-*.safetensors")]) - len(store.shards)
    left_out = f"; left out as damaged: {several(damaged, 'shard')}" if damaged else ""
    return f"of {several(len(keys), 'image')} in {', '.join(views)}, such as {stems[missing[0][0]]!r}{left_out}"


def read_records(run: Run, name: str, *, learning: bool) -> list[tuple[str, str]]:
    """The records that a run reads from a teacher's cache; see `open_caches`."""
    splits, teacher = run.splits, run.recipe.teachers[name]
    if not learning:
        return [(key, "identity") for key, _ in key_pairs_of(splits.held_out)]
    keys = sorted(set(record_keys(teacher, splits.training)))
    views = dict.fromkeys(run.recipe.view_read(name, view) for view in run.recipe.augment.views)
    wanted = [(key, view) for key in keys for view in views]
    if run.recipe.reads_features:  # validation also reads the cache
        wanted += [(sample.key, "identity") for sample in splits.val]
    return wanted


def lacks_records(run: Run, name: str) -> bool:
    """Whether a teacher's cache is missing, or lacks a record for training."""
    try:
        return bool(cache.open(run.caches[name]).missing(read_records(run, name, learning=True)))
    except (FileNotFoundError, cache.DamagedError):
        return True


def labels_of_teachers(run: Run) -> set[str]:
    """Keys of the images whose masks a run's teachers learned from, as far as caches that are still there say so."""
    opened = [cache.open(path) for path in run.caches.values() if cache.exists(path)]
    return {key for store in opened for key in labels_seen(store) or ()}


def labels_seen(store: cache.Cache) -> Sequence[str] | None:
    """Keys of the images whose masks the teacher behind a cache learned from; None if the cache does not say."""
    return store.calibration if store.identity["teacher"] == "task" else store.identity.get("labelled")


def check_labels(run: Run, path: Path, store: cache.Cache) -> None:
    """Refuses a teacher that, by the record in its cache, learned from masks that are hidden here.

    Raises:
        ValueError: it was trained on masks of images that are held out, or that have no mask here.
    """
    if "prompts" in store.identity:  # a record's key says which mask prompted it
        return
    seen = labels_seen(store)
    if seen is None:
        if MASK in store.spec.names:
            logger.warning(
                "%s does not say which masks its teacher learned from; check that none of them is tested here", path
            )
        return
    if known := len(run.splits.hidden.intersection(seen)):
        raise ValueError(
            f"the teacher behind {path} was trained on the masks of {known} images that have no mask here, or are "
            "held out; train it with the same data.split, data.labels and data.seed"
        )
    if further := len(set(seen) - keys_of(run.splits.train)):
        logger.info("the teacher behind %s learned from the masks of %d images that are not in this run", path, further)
