"""Extraction: a teacher sees each training image once in each view, and leaves a frequency code."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cache
from cache.spec import flip
from distill.data.sample import Sample
from distill.distiller import MASK, check_grids, check_mask
from distill.job import Job, as_job, calibration_keys
from distill.masks import FIDELITY, TaskTeacher, code_masks, create_masks
from distill.progress import Progress, clock
from distill.recipe import Recipe, TeacherRecipe

GALLERY = 8  # validation images whose plain view is kept too: they are shown, never learned from
DECODERS = 2  # threads that read and preprocess images while the teacher looks at the last batch
ENCODERS = 1  # threads that encode what the teacher said of the last batch

logger = logging.getLogger("bandpass")
Record = tuple[str, str]  # key of an image, view
Coded = tuple[tuple[str, str, dict[str, dict[str, bytes]]], dict[str, float]]  # a coded record, fidelity of each map


def gallery(job: Job) -> tuple[Sample, ...]:
    """The validation images whose features are kept for pictures."""
    return tuple(sorted(job.splits.val, key=lambda sample: sample.key)[:GALLERY])


def wanted_records(job: Job, name: str) -> list[Record]:
    """Training images in every view, and as they are those of the gallery, or all that a task decoder is scored on."""
    splits, views = job.splits, job.recipe.views_of(name)
    shown = gallery(job)
    if job.recipe.reads_features:
        shown = (*splits.val, *(sample for part in splits.test.values() for sample in part))
    records = [(sample.key, view) for sample in (*splits.train, *splits.unlabelled) for view in views]
    return sorted(set(records) | {(sample.key, "identity") for sample in shown})


def load_teacher(recipe: TeacherRecipe) -> Any:  # noqa: ANN401
    """The teacher of a recipe; its library is imported here and nowhere else.

    Raises:
        ValueError: no weights are named.
        FileNotFoundError: they are not to be had.
    """
    import teachers

    return teachers.load(
        recipe.adapter,
        weights=recipe.weights,
        model=recipe.model,
        strides=tuple(recipe.strides) or None,
        levels=tuple(recipe.levels) or None,
        image_size=recipe.image_size,
        classes=tuple(recipe.classes) or None,
    )


def batches_of(
    records: Sequence[Record],
    samples: dict[str, Sample],
    teacher: Any,  # noqa: ANN401
    *,
    size: int,
) -> Iterator[tuple[list[Record], Tensor, Tensor]]:
    """Preprocessed batches (records, pixels, valid), read by threads one batch ahead."""

    def prepare(record: Record) -> Any:  # noqa: ANN401
        key, view = record
        return teacher.prepare(np.ascontiguousarray(flip(samples[key].read_image(), view, axes=(0, 1))))

    parts = [list(records[first : first + size]) for first in range(0, len(records), size)]
    with ThreadPoolExecutor(DECODERS) as pool:
        ahead = [pool.submit(prepare, record) for record in parts[0]] if parts else []
        for number, part in enumerate(parts):
            ready = [future.result() for future in ahead]
            following = parts[number + 1] if number + 1 < len(parts) else []
            ahead = [pool.submit(prepare, record) for record in following]
            pixels = torch.stack([one.pixels for one in ready])
            yield part, pixels, torch.tensor([one.valid for one in ready])


def calibrate(job: Job, teacher: Any, recipe: TeacherRecipe) -> dict[str, cache.Codec]:  # noqa: ANN401
    """A codec for each map, fitted on calibration images of the training part in their plain view."""
    keys = calibration_keys(job.splits, job.recipe.cache.calibration)
    samples = {sample.key: sample for sample in (*job.splits.train, *job.splits.unlabelled)}
    features: dict[str, list[Tensor]] = {name: [] for name in teacher.spec.names}
    with Progress("calibrate", total=len(keys), unit="images") as bar:
        for part, pixels, valid in batches_of(
            [(key, "identity") for key in keys], samples, teacher, size=recipe.batch_size
        ):
            for name, maps in teacher.forward(pixels, valid).items():
                features[name].append(maps.half().cpu())
            bar.update(len(part))
    asked = job.recipe.cache.fidelity
    return {
        name: cache.fit(maps, fidelity=max(FIDELITY, asked) if name == MASK else asked)
        for name, maps in features.items()
    }


def extract(work: Job | Recipe) -> dict[str, int]:
    """Fills the cache of every teacher that the recipe consults; returns the forward passes (images) each one ran.

    Work is shared by runs of 256 records: any process takes any run, and a kill loses at most the runs being written.

    Raises:
        FileNotFoundError: a teacher's weights are not to be had.
        ValueError: the folder holds another teacher's features, or the code does not reach its fidelity.
    """
    job = as_job(work)
    forwards = {}
    for name, recipe in job.recipe.consulted.items():
        forwards[name] = 0 if recipe.cache else extract_teacher(job, name, recipe)
    return forwards


def extract_teacher(job: Job, name: str, recipe: TeacherRecipe) -> int:
    """Fills one teacher's cache; returns the images that went through the teacher, over all processes.

    The first process holds the folder's lock all the while, so that a second extraction waits, in a sentence.
    """
    folder, lead = job.caches[name], job.accelerator.is_main_process
    wanted = wanted_records(job, name)
    if job.agree(lambda: is_complete(folder, wanted)):
        logger.info("%s: all %d records are in %s; the teacher is not needed", name, len(wanted), folder)
        return 0
    with cache.lock(folder) if lead else nullcontext():
        if job.agree(lambda: is_complete(folder, wanted)):  # by the extraction that this one waited for
            return 0
        if lead and cache.exists(folder):
            for problem in cache.repair(folder):
                logger.info("removed %s (%s); its images are extracted again", problem.file, problem.reason)
        began = time.monotonic()
        seen = extract_masks(job, name, wanted) if recipe.adapter == "task" else extract_images(job, name, wanted)
        job.accelerator.wait_for_everyone()
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


def extract_images(job: Job, name: str, wanted: Sequence[Record]) -> int:
    """Shows a teacher the images of the missing records; returns how many images it saw over all processes."""
    folder, lead = job.caches[name], job.accelerator.is_main_process
    teacher = load_teacher(job.recipe.teachers[name]).to(job.accelerator.device)
    check_grids(job.recipe, teacher.spec, teacher=name)
    check_mask(job.recipe, teacher.spec.names, teacher=name)
    calibrated = 0
    if lead and not cache.exists(folder):
        calibrated = create_cache(job, name, teacher)
    job.accelerator.wait_for_everyone()
    return sum(len(run) for run in fill(job, name, teacher, wanted)) + calibrated


def extract_masks(job: Job, name: str, wanted: Sequence[Record]) -> int:
    """Writes a task teacher's masks of the missing records from the cache that it reads; no teacher sees an image."""
    recipe, accelerator = job.recipe.teachers[name], job.accelerator
    source = job.caches[str(recipe.of)]
    teacher = TaskTeacher(Path(str(recipe.weights)).expanduser(), cache.open(source))
    folder = job.caches[name]
    if accelerator.is_main_process and not cache.exists(folder):
        create_masks(folder, teacher, fidelity=job.recipe.cache.fidelity, batch_size=recipe.batch_size)
    accelerator.wait_for_everyone()
    store = cache.open(folder)
    store.check_identity(teacher.identity)
    runs = cache.plan(store, wanted)
    accelerator.wait_for_everyone()
    own = runs[accelerator.process_index :: accelerator.num_processes]
    total = sum(len(run) for run in own)
    with Progress(f"masks of {name}", total=total, unit="records", shown=accelerator.is_main_process) as bar:
        for run in own:
            coded = []
            for one in code_masks(store, run, teacher):
                coded.append(one)
                bar.update(1)
            reached = float(np.mean([fidelity for _, fidelity in coded]))
            cache.write_shard(store, [code for code, _ in coded], fidelity={MASK: reached})
    return 0


def is_complete(folder: Path, wanted: Sequence[Record]) -> bool:
    """Whether a folder holds a cache with all `wanted` records."""
    return cache.exists(folder) and not cache.plan(folder, wanted)


def create_cache(job: Job, name: str, teacher: Any) -> int:  # noqa: ANN401
    """Fits the codecs and writes the manifest; returns how many images the teacher saw for it."""
    recipe = job.recipe.teachers[name]
    keys = calibration_keys(job.splits, job.recipe.cache.calibration)
    cache.create(
        job.caches[name],
        spec=teacher.spec,
        codecs=calibrate(job, teacher, recipe),
        identity=teacher.identity,
        licence=recipe.licence or teacher.licence,
        fidelity=job.recipe.cache.fidelity,
        batch_size=recipe.batch_size,
        views=tuple(recipe.views),
        calibration=keys,
    )
    return len(keys)


def fill(job: Job, name: str, teacher: Any, wanted: Sequence[Record]) -> list[tuple[Record, ...]]:  # noqa: ANN401
    """Writes this process's share of the missing runs; returns all of them."""
    accelerator = job.accelerator
    splits = job.splits
    images = (*splits.train, *splits.unlabelled, *splits.val, *(s for part in splits.test.values() for s in part))
    samples = {sample.key: sample for sample in images}
    store = cache.open(job.caches[name])
    store.check_identity(teacher.identity)
    runs = cache.plan(store, wanted)
    accelerator.wait_for_everyone()
    own = runs[accelerator.process_index :: accelerator.num_processes]
    total = sum(len(run) for run in own)
    with (
        Progress(f"extract {name}", total=total, unit="images", shown=accelerator.is_main_process) as bar,
        ThreadPoolExecutor(ENCODERS) as encoders,
    ):
        for run in own:
            write_run(store, run, samples, teacher, encoders, bar)
    return runs


def write_run(
    store: cache.Cache,
    run: Sequence[Record],
    samples: dict[str, Sample],
    teacher: Any,  # noqa: ANN401
    encoders: ThreadPoolExecutor,
    bar: Progress,
) -> None:
    """Sends one run of records through the teacher and writes their shard; encoding overlaps the next batch."""
    pending: deque[Future[list[Coded]]] = deque()
    coded: list[Coded] = []
    for part, pixels, valid in batches_of(run, samples, teacher, size=store.batch_size):
        maps = {name: features.cpu() for name, features in teacher.forward(pixels, valid).items()}
        pending.append(encoders.submit(encode, store, part, maps))
        if len(pending) > ENCODERS:
            coded += pending.popleft().result()
        bar.update(len(part))
    for future in pending:
        coded += future.result()
    fidelity = {name: float(np.mean([reached[name] for *_, reached in coded])) for name in store.codecs}
    cache.write_shard(store, [code for code, _ in coded], fidelity=fidelity)


def encode(store: cache.Cache, part: Sequence[Record], maps: dict[str, Tensor]) -> list[Coded]:
    """Codes a batch of maps (N, C, h, w) and measures the fidelity that each record reached."""
    coded = []
    for index, (key, view) in enumerate(part):
        codes = {name: store.codecs[name].encode(features[index]) for name, features in maps.items()}
        reached = {
            name: store.codecs[name].fidelity(features[index : index + 1], [codes[name]])
            for name, features in maps.items()
        }
        coded.append(((key, view, codes), reached))
    return coded
