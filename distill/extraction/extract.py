"""`extract`: every training image passes each teacher once per view, and its maps are kept as frequency codes."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cache
from cache.shard import Record
from distill.distillation.targets import check_classes, check_grids, check_mask, note_idle_maps
from distill.extraction.cache_state import CacheState, inspect_cache, is_whole
from distill.extraction.calibrate import initialise_cache, restore_cache
from distill.extraction.cost import check_memory, estimate_cost
from distill.extraction.encode import Encoders, extract_shard
from distill.extraction.plan import ExtractionPlan, plan_extraction
from distill.extraction.task_teacher import TaskTeacher, initialise_masks, write_masks
from distill.extraction.teacher_inference import PRECISIONS, FeatureExtractor, batches_of, load_teacher
from distill.runs.run import Run
from distill.runtime.issues import several
from distill.runtime.progress import Progress, clock, progress
from distill.runtime.threads import workers_beside

logger = logging.getLogger("bandpass")


def extract(run: Run) -> dict[str, int]:
    """Fills the cache of every teacher that the recipe consults; returns the number of images that passed each.

    Work is shared by shards of 256 records: any process can write any shard, and a kill loses at most the shards being
    written.

    Raises:
        FileNotFoundError: a teacher's weights do not exist.
        ValueError: the folder holds another teacher's features, or the code does not reach its fidelity.
    """
    return {name: 0 if recipe.cache else extract_teacher(run, name) for name, recipe in run.recipe.consulted.items()}


def extract_teacher(run: Run, name: str) -> int:
    """Fills one teacher's cache; returns the number of images passed, over all processes and including before a kill.

    The first process holds the folder's lock meanwhile; a second extraction says so and waits. A complete cache is not
    locked, because it may lie in a read-only place.
    """
    plan = plan_extraction(run, name)
    lead = plan.rank == 0
    with cache.lock(plan.folder) if lead and not is_whole(plan.folder, plan.records) else nullcontext():
        whole = lead and is_whole(plan.folder, plan.records)  # by now, if this one waited for another extraction
        if not run.agree(lambda: whole):
            return complete_cache(run, plan)
    logger.info("%s: all %d records are in %s already; the teacher is not needed", name, len(plan.records), plan.folder)
    return run.images_begun(name, 0) if lead else 0  # those that passed before a kill


def complete_cache(run: Run, plan: ExtractionPlan) -> int:
    """Repairs a cache and extracts missing records; returns the number of images passed, over all processes."""
    began = time.monotonic()
    if plan.rank == 0 and cache.exists(plan.folder):
        cache.repair(plan.folder)
    images = extract_masks(run, plan) if plan.recipe.adapter == "task" else extract_images(run, plan)
    run.wait()
    if plan.rank == 0:
        store, took = cache.open(plan.folder), clock(time.monotonic() - began)
        size = store.nbytes / max(1, len(store)) / 1e3
        count = several(len(store), "record")
        logger.info("%s: %s of %.1f kB in %s; took %s", plan.name, count, size, plan.folder, took)
    return images


def extract_images(run: Run, plan: ExtractionPlan) -> int:
    """Passes the images of the missing records through a teacher; returns their number, over all processes."""
    teacher = load_teacher(plan.recipe, plan.origin).to(plan.device, PRECISIONS[plan.recipe.precision])
    check_grids(run.recipe, teacher.spec, teacher=plan.name)
    check_mask(run.recipe, teacher.spec.names, teacher=plan.name)
    check_classes(run.recipe, teacher.spec, teacher=plan.name)
    if note := note_idle_maps(run.recipe, teacher.spec, teacher=plan.name):
        logger.info(note)
    calibrated, begun = prepare_cache(run, plan, teacher) if plan.rank == 0 else (0, 0)
    run.wait()
    return max(begun, calibrated + fill(run, plan, teacher))


def prepare_cache(run: Run, plan: ExtractionPlan, teacher: Any) -> tuple[int, int]:  # noqa: ANN401
    """Reports what is missing and its cost, and initialises the cache if necessary; for the first process only.

    If only the manifest is damaged, it is restored first.

    Returns:
        The number of images that passed the teacher, and the number missing when this extraction first began.
    """
    state = inspect_cache(plan.folder, plan.records)
    extractor = FeatureExtractor(teacher, size=state.batch_size or plan.recipe.batch_size)
    if cache.exists(plan.folder) and not state.initialised:
        restore_cache(plan, extractor)
        state = inspect_cache(plan.folder, plan.records)
    if not state.initialised:
        check_memory(plan, teacher.spec)
    if state.missing:
        report_plan(plan, state)
        logger.info(str(estimate_cost(plan, state, extractor)))
    begun = run.images_begun(plan.name, len(state.missing))
    return 0 if state.initialised else initialise_cache(plan, extractor), begun


def report_plan(plan: ExtractionPlan, state: CacheState) -> None:
    """Logs what is missing, and the number of images that get grid prompts."""
    images, views = len({key for key, _ in state.missing}), len(plan.recipe.views)
    logger.info("%s: %s in up to %s, %s to extract", plan.name, several(images, "image"), several(views, "view"),
                several(len(state.missing), "record"))  # fmt: skip
    if plan.recipe.prompts == "boxes" and plan.unlabelled:
        logger.warning(
            "%s: %d training images without a mask are prompted with a grid of points, which segments "
            "objects of any class",
            plan.name,
            plan.unlabelled,
        )


def fill(run: Run, plan: ExtractionPlan, teacher: Any) -> int:  # noqa: ANN401
    """Writes this process's share of the missing shards; returns the number of images in all of them.

    Calibration images have shards of their own. Usually `initialise_cache` has written them already, from the maps on
    which the codecs were fitted. If it was killed before, they pass the teacher again, with the same bytes.
    """
    store, shards = open_missing(run, plan)
    store.check_identity(teacher.identity)
    fitted = set(plan.plain_records(store.calibration))
    run.wait()  # nothing is written before all processes know what is missing
    own = shards[plan.rank :: plan.processes]
    extractor = FeatureExtractor(teacher, size=store.batch_size)
    with (
        Encoders(store, processes=workers_beside(plan.device)) as encoders,
        Progress(f"extract {plan.name}", total=sum(map(len, own)), unit="images", shown=plan.rank == 0) as bar,
    ):
        for shard in own:
            batches = batches_of(shard, plan.read, teacher=teacher, size=store.batch_size)
            extract_shard(store, batches, extractor, encoders, bar, rounded=shard[0] in fitted)
    return sum(map(len, shards))


def open_missing(run: Run, plan: ExtractionPlan) -> tuple[cache.Cache, list[Sequence[Record]]]:
    """The cache of a plan, and its missing shards as the first process lists them."""

    def read() -> tuple[cache.Cache, list[Sequence[Record]]]:
        store = cache.open(plan.folder)
        fitted = set(plan.plain_records(store.calibration)).intersection(plan.records)
        others = [record for record in plan.records if record not in fitted]
        return store, [*cache.plan(store, fitted), *cache.plan(store, others)]

    def read_the_same() -> tuple[cache.Cache, list[Sequence[Record]]]:
        store, shards = read()
        if names_of(shards) != agreed:
            raise FileNotFoundError(f"{plan.folder} lacks {len(shards)} shards here, but {len(agreed)} elsewhere")
        return store, shards

    def names_of(shards: Sequence[Sequence[Record]]) -> list[tuple[Record, int]]:
        return [(shard[0], len(shard)) for shard in shards]

    found = read() if plan.rank == 0 else None
    agreed = run.agree(lambda: names_of(found[1] if found else []))
    return found or run.once_listed(read_the_same)


def extract_masks(run: Run, plan: ExtractionPlan) -> int:
    """Writes a task teacher's masks for the missing records from the cache that it reads; returns 0 images passed."""
    teacher = TaskTeacher(Path(str(plan.recipe.weights)).expanduser(), cache.open(str(plan.source)), plan.origin)
    if plan.rank == 0 and not inspect_cache(plan.folder, plan.records).initialised:
        initialise_masks(plan.folder, teacher, fidelity=plan.fidelity, batch_size=plan.recipe.batch_size)
    run.wait()
    store = run.once_listed(lambda: cache.open(plan.folder))
    store.check_identity(teacher.identity)
    shards = cache.plan(store, plan.records)
    run.wait()  # nothing is written before all processes know what is missing
    own = shards[plan.rank :: plan.processes]
    for shard in progress(own, what=f"masks of {plan.name}", total=len(own), unit="shards", shown=plan.rank == 0):
        write_masks(store, shard, teacher)
    return 0
