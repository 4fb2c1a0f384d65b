"""From a teacher's maps to shards; maps are encoded while the next batches pass the teacher."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from threading import Thread
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

import cache
from cache.shard import Record
from distill.extraction.teacher_inference import Batch, FeatureExtractor, rounded_to_half
from distill.runtime.issues import several
from distill.runtime.progress import Progress
from distill.runtime.threads import compute_alone, small_workers

FEW = 32  # images: a code fitted on fewer may not fit others

Coded = tuple[tuple[str, str, dict[str, dict[str, bytes]]], dict[str, float]]  # a coded record, fidelity of each map

_store: cache.Cache  # of an encoding process; set once, because opening a cache reads the heads of all its shards


class Encoders:
    """Encodes maps during the teacher's forward pass, in one thread or several processes.

    An entropy coder holds the interpreter's lock, and a teacher on an accelerator is faster than one of them; on a CPU,
    the teacher uses all cores. The bytes are the same either way.

    Attributes:
        ahead: records that may wait to be encoded before the teacher waits.
    """

    def __init__(self, store: cache.Cache, *, processes: int = 0) -> None:
        """Starts `processes` processes, or a thread if 0. Processes are forked, so start them before other threads."""
        self.store, self.processes = store, processes
        self.ahead = max(16, 4 * processes)
        self.pool: Executor = _forked(store, processes) if processes else small_workers(1)

    def submit(self, record: Record, maps: Mapping[str, Tensor]) -> Future[Coded]:
        """Encodes the maps (C, h, w) of a record; returns the future code."""
        if self.processes:  # as arrays: tensors would be sent through shared memory, which is small in containers
            return self.pool.submit(_encode, record, {name: features.numpy() for name, features in maps.items()})
        return self.pool.submit(encode, self.store, record, maps)

    def __enter__(self) -> Encoders:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.pool.shutdown(cancel_futures=kind is not None)


def _forked(store: cache.Cache, processes: int) -> Executor:
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, mp_context=fork, initializer=_begin, initargs=(store,))
    for future in [pool.submit(_nothing) for _ in range(processes)]:  # so that all are started
        future.result()
    return pool


def _begin(store: cache.Cache) -> None:
    global _store
    _store = store
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the extraction reports an interruption
    compute_alone()
    Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()


def _leave_with(parent: int) -> None:
    """Ends this process once its parent has been killed; nothing else would."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _nothing() -> None:
    """Does nothing, so that a process starts."""


def _encode(record: Record, maps: Mapping[str, np.ndarray]) -> Coded:
    """Runs `encode` in a process, on maps (C, h, w) as arrays."""
    return encode(_store, record, {name: torch.from_numpy(features) for name, features in maps.items()})


def extract_shard(
    store: cache.Cache,
    batches: Iterable[Batch],
    extractor: FeatureExtractor,
    encoders: Encoders,
    bar: Progress,
    *,
    rounded: bool = False,
) -> None:
    """Passes the batches of one shard through the teacher and writes it; encoding overlaps the next batches.

    If `rounded`, maps are encoded as `distill.extraction.calibrate.extract_features` keeps them.
    """
    pending: deque[Future[Coded]] = deque()
    coded: list[Coded] = []
    for batch in batches:
        maps = extractor(batch)
        if rounded:
            maps = {name: rounded_to_half(features) for name, features in maps.items()}
        for index, record in enumerate(batch.records):
            pending.append(encoders.submit(record, {name: features[index] for name, features in maps.items()}))
        while len(pending) > max(encoders.ahead, len(batch.records)):
            coded.append(pending.popleft().result())
        bar.update(len(batch.records))
    coded += [future.result() for future in pending]
    write_coded(store, coded)


def write_coded(store: cache.Cache, coded: Sequence[Coded]) -> None:
    """Writes coded records as a shard, with the fidelity that they reached on average.

    Raises:
        ValueError: it is lower than asked for, by more than chance.
    """
    fidelity = {name: float(np.mean([reached[name] for *_, reached in coded])) for name in store.codecs}
    try:
        cache.write_shard(store, [code for code, _ in coded], fidelity=fidelity)
    except ValueError as error:
        raise ValueError(f"{error}{few_images_hint(images_fitted(store))}") from error


def encode(store: cache.Cache, record: Record, maps: Mapping[str, Tensor]) -> Coded:
    """Encodes the maps (C, h, w) of one record and measures the fidelity that each reached.

    Raises:
        ValueError: a map cannot be coded; the message names it and its image.
    """
    codes, fidelity = {}, {}
    for name, features in maps.items():
        try:
            codes[name], fidelity[name] = store.codecs[name].encode_with_fidelity(features)
        except ValueError as error:  # noqa: PERF203 - a map each
            key, view = record
            hint = few_images_hint(images_fitted(store))
            raise ValueError(
                f"no code for map {name!r} of image {key[:12]} under view {view!r}: {error}{hint}"
            ) from error
    return (*record, codes), fidelity


def images_fitted(store: cache.Cache) -> int:
    """The number of images on which the codecs of a cache were fitted."""
    return min(codec.images for codec in store.codecs.values())


def few_images_hint(images: int) -> str:
    """The end of a sentence on a code that does not fit, if it was fitted on fewer than `FEW` images; else empty."""
    if images >= FEW:
        return ""
    return (
        f"; the code was fitted on {several(images, 'image')}, too few to stand for others: give at least {FEW} "
        "training images (those of data.unlabelled=DIR count, and cache.calibration must be no less), or train "
        "without a teacher"
    )
