"""Extraction: a teacher sees each training image once in each view, and leaves a frequency code."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import cache
from cache.spec import MASK
from distill.config.schema import Recipe, TeacherRecipe
from distill.data.prompts import record_key
from distill.data.sample import Sample
from distill.data.sources.unlabelled import unlabel
from distill.distillation.targets import check_grids, check_mask
from distill.extraction.calibrate import batch_size_of, create_cache, fitted_records, is_founded, restore_cache
from distill.extraction.cost import check_memory, cost_of, weight
from distill.extraction.encode import Encoders, extract_shard, processes_for
from distill.extraction.task_teacher import TaskTeacher, code_masks, create_masks
from distill.extraction.teacher_inference import FeatureExtractor, Record, batches_of, load_teacher, samples_of
from distill.runs.run import Run, as_run
from distill.runtime.progress import Progress, clock

GALLERY = 8  # validation images whose plain view is kept too: they are shown, never learned from
LONG = 2_000_000_000  # bytes, from which on looking at every one of them takes long enough to be told

logger = logging.getLogger("bandpass")


def gallery(run: Run) -> tuple[Sample, ...]:
    """The validation images whose features are kept for pictures."""
    return tuple(sorted(run.splits.val, key=lambda sample: sample.key)[:GALLERY])


def wanted_records(run: Run, name: str) -> list[Record]:
    """Training images in every view, and as they are those of the gallery, or all that a task decoder is scored on."""
    splits, views, recipe = run.splits, run.recipe.views_of(name), run.recipe.teachers[name]
    shown = gallery(run)
    source = run.recipe.teachers.get(recipe.of or "")
    if source is not None and source.cache and recipe.of in run.caches:
        # A cache made elsewhere need not hold what is only shown.
        given = cache.open(run.caches[str(recipe.of)])
        shown = tuple(sample for sample in shown if (sample.key, "identity") in given)
    if run.recipe.reads_features:
        shown = (*splits.val, *(sample for part in splits.test.values() for sample in part))
    records = [(record_key(recipe, sample), view) for sample in (*splits.train, *splits.unlabelled) for view in views]
    return sorted(set(records) | {(record_key(recipe, unlabel(sample)), "identity") for sample in shown})


def extract(work: Run | Recipe) -> dict[str, int]:
    """Fills the cache of every teacher that the recipe consults; returns the forward passes (images) each one ran.

    Work is shared by shards of 256 records: any process takes any shard, and a kill loses at most the shards being
    written.

    Raises:
        FileNotFoundError: a teacher's weights are not to be had.
        ValueError: the folder holds another teacher's features, or the code does not reach its fidelity.
    """
    run = as_run(work)
    forwards = {}
    for name, recipe in run.recipe.consulted.items():
        forwards[name] = 0 if recipe.cache else extract_teacher(run, name, recipe)
    return forwards


def extract_teacher(run: Run, name: str, recipe: TeacherRecipe) -> int:
    """Fills one teacher's cache; returns the images that went through the teacher, over all processes.

    The first process holds the folder's lock all the while, so that a second extraction waits, in a sentence.
    """
    folder, lead = run.caches[name], run.accelerator.is_main_process
    wanted = wanted_records(run, name)
    if run.agree(lambda: is_whole(folder, wanted)):
        logger.info("%s: all %d records are in %s; the teacher is not needed", name, len(wanted), folder)
        return 0
    with cache.lock(folder) if lead else nullcontext():
        if run.agree(lambda: is_whole(folder, wanted)):  # by the extraction that this one waited for
            return 0
        if lead and cache.exists(folder):
            cache.repair(folder)
        began = time.monotonic()
        seen = extract_masks(run, name, wanted) if recipe.adapter == "task" else extract_images(run, name, wanted)
        run.accelerator.wait_for_everyone()
    if lead:
        written = cache.open(folder)
        logger.info(
            "%s: %d records of %.1f kB in %s; took %s",
            name,
            len(written),
            written.bytes_per_image() / 1e3,
            folder,
            clock(time.monotonic() - began),
        )
    return seen


def extract_images(run: Run, name: str, wanted: Sequence[Record]) -> int:
    """Shows a teacher the images of the missing records; returns how many images it saw over all processes."""
    folder, lead = run.caches[name], run.accelerator.is_main_process
    recipe = run.recipe.teachers[name]
    teacher = load_teacher(recipe).to(run.accelerator.device)
    check_grids(run.recipe, teacher.spec, teacher=name)
    check_mask(run.recipe, teacher.spec.names, teacher=name)
    extractor = FeatureExtractor(teacher, size=batch_size_of(folder, asked=recipe.batch_size))
    if lead and cache.exists(folder) and not is_founded(folder):
        restore_cache(run, name, extractor)
    calibrated = 0
    if lead:
        if not (founded := is_founded(folder)):
            check_memory(run, name, teacher.spec)
        tell_cost(run, name, extractor, wanted)
        calibrated = 0 if founded else create_cache(run, name, extractor)
    run.accelerator.wait_for_everyone()
    return sum(len(shard) for shard in fill(run, name, teacher, wanted)) + calibrated


def tell_cost(run: Run, name: str, extractor: FeatureExtractor, wanted: Sequence[Record]) -> None:
    """Says what is to be extracted, what it will take, and what its prompts cannot know."""
    folder, recipe = run.caches[name], run.recipe.teachers[name]
    records = list(wanted)
    if cache.exists(folder):
        with suppress(cache.DamagedError):
            records = [record for shard in cache.plan(folder, wanted) for record in shard]
    if not records:
        return
    images, views = len({key for key, _ in records}), len(recipe.views)
    logger.info("%s: %d images in up to %d views, %d records to extract", name, images, views, len(records))
    logger.info(cost_of(run, name, extractor, samples_of(run, name), records))
    if recipe.prompts == "boxes" and run.splits.unlabelled:
        logger.warning(
            "%s: %d training images without a mask are asked with a grid of points, which finds things but does not "
            "know which of them are meant",
            name,
            len(run.splits.unlabelled),
        )


def extract_masks(run: Run, name: str, wanted: Sequence[Record]) -> int:
    """Writes a task teacher's masks of the missing records from the cache that it reads; no teacher sees an image."""
    recipe, accelerator = run.recipe.teachers[name], run.accelerator
    source = run.caches[str(recipe.of)]
    teacher = TaskTeacher(Path(str(recipe.weights)).expanduser(), cache.open(source))
    folder = run.caches[name]
    if accelerator.is_main_process and not is_founded(folder):
        create_masks(folder, teacher, fidelity=run.recipe.cache.fidelity, batch_size=recipe.batch_size)
    accelerator.wait_for_everyone()
    store = cache.open(folder)
    store.check_identity(teacher.identity)
    shards = cache.plan(store, wanted)
    accelerator.wait_for_everyone()
    own = shards[accelerator.process_index :: accelerator.num_processes]
    total = sum(len(shard) for shard in own)
    with Progress(f"masks of {name}", total=total, unit="records", shown=accelerator.is_main_process) as bar:
        for shard in own:
            coded = []
            for one in code_masks(store, shard, teacher):
                coded.append(one)
                bar.update(1)
            reached = float(np.mean([fidelity for _, fidelity in coded]))
            cache.write_shard(store, [code for code, _ in coded], fidelity={MASK: reached})
    return 0


def is_complete(folder: Path, wanted: Sequence[Record]) -> bool:
    """Whether a folder holds a cache with all `wanted` records."""
    return is_founded(folder) and not cache.plan(folder, wanted)


def is_whole(folder: Path, wanted: Sequence[Record]) -> bool:
    """Whether it holds them, and every byte of it is as it was written."""
    return is_complete(folder, wanted) and is_sound(folder, state_of(folder))


def state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of change of every file of a cache."""
    found = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)


@lru_cache(maxsize=8)
def is_sound(folder: Path, state: tuple[tuple[str, int, int], ...]) -> bool:
    """Whether `cache.verify` finds nothing but foreign files; looked at once a process while all stay the same."""
    if (size := sum(size for _, size, _ in state)) >= LONG:
        logger.info("looking at every byte of %s, %s", folder, weight(size))
    return all(problem.kind == "foreign" for problem in cache.verify(folder))


def fill(run: Run, name: str, teacher: Any, wanted: Sequence[Record]) -> list[tuple[Record, ...]]:  # noqa: ANN401
    """Writes this process's share of the missing shards; returns all of them.

    The calibration images have shards of their own: as a rule `create_cache` has written them, from the maps that the
    codecs were fitted on; if it was killed before it could, they are looked at again, and the bytes are the same.
    """
    accelerator, recipe, samples = run.accelerator, run.recipe.teachers[name], samples_of(run, name)
    store = cache.open(run.caches[name])
    store.check_identity(teacher.identity)
    fitted = set(fitted_records(run, name, store.calibration))
    shards = [*cache.plan(store, fitted.intersection(wanted)), *cache.plan(store, set(wanted) - fitted)]
    accelerator.wait_for_everyone()
    own = shards[accelerator.process_index :: accelerator.num_processes]
    total = sum(len(shard) for shard in own)
    extractor = FeatureExtractor(teacher, size=store.batch_size)
    with (
        Progress(f"extract {name}", total=total, unit="images", shown=accelerator.is_main_process) as bar,
        Encoders(store, processes=processes_for(accelerator.device)) as encoders,
    ):
        for shard in own:
            batches = batches_of(shard, samples, teacher, recipe, size=store.batch_size)
            extract_shard(store, batches, extractor, encoders, bar, rounded=shard[0] in fitted)
    return shards
