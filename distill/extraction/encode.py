"""From what a teacher says to shards: coding goes on while the teacher looks at the next batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
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
from distill.extraction.teacher_inference import Batch, FeatureExtractor, Record
from distill.runtime.progress import Progress
from distill.runtime.threads import compute_alone, small_workers, workers_beside

Coded = tuple[tuple[str, str, dict[str, dict[str, bytes]]], dict[str, float]]  # a coded record, fidelity of each map

_store: cache.Cache  # of a process that codes; set once, since opening a cache reads the heads of all its shards


class Encoders:
    """Codes what a teacher said while it looks on: one thread, or several processes.

    One entropy coder holds the interpreter's lock, and a teacher on an accelerator is faster than one of them; on a CPU
    the teacher wants the cores for itself. The bytes are the same either way.

    Attributes:
        ahead: records that may wait to be coded before the teacher waits.
    """

    def __init__(self, store: cache.Cache, *, processes: int = 0) -> None:
        """Begins `processes` processes; 0: a thread. They fork, so begin before other threads do."""
        self.store, self.processes = store, processes
        self.ahead = max(16, 4 * processes)
        self.pool: Executor = _forked(store, processes) if processes else small_workers(1)

    def submit(self, record: Record, maps: Mapping[str, Tensor]) -> Future[Coded]:
        """Codes the maps (C, h, w) of a record, sooner or later."""
        if self.processes:  # as arrays: tensors would travel through shared memory, of which containers have little
            return self.pool.submit(_encode, record, {name: features.numpy() for name, features in maps.items()})
        return self.pool.submit(encode, self.store, record, maps)

    def __enter__(self) -> Encoders:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.pool.shutdown(cancel_futures=kind is not None)


def processes_for(device: torch.device) -> int:
    """How many processes should code what a teacher on a device says; 0 for a thread.

    They are forked, which macOS's frameworks do not survive once they are in use.
    """
    return workers_beside(device) if sys.platform == "linux" else 0


def _forked(store: cache.Cache, processes: int) -> Executor:
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, mp_context=fork, initializer=_begin, initargs=(store,))
    for future in [pool.submit(_nothing) for _ in range(processes)]:  # so that they are there
        future.result()
    return pool


def _begin(store: cache.Cache) -> None:
    global _store
    _store = store
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is the extraction's to tell, once
    compute_alone()
    Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()


def _leave_with(parent: int) -> None:
    """Ends this process once its parent was killed: nothing else tells it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _nothing() -> None:
    """Does nothing, in a process."""


def _encode(record: Record, maps: Mapping[str, np.ndarray]) -> Coded:
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
    """Sends one run of records through the teacher and writes their shard; coding overlaps the next batches.

    If `rounded`, maps are coded as `distill.extraction.calibrate.look` keeps them, in half precision.
    """
    pending: deque[Future[Coded]] = deque()
    coded: list[Coded] = []
    for batch in batches:
        maps = extractor(batch)
        if rounded:
            maps = {name: features.half() for name, features in maps.items()}
        for index, record in enumerate(batch.records):
            pending.append(encoders.submit(record, {name: features[index] for name, features in maps.items()}))
        while len(pending) > max(encoders.ahead, len(batch.records)):
            coded.append(pending.popleft().result())
        bar.update(len(batch.records))
    coded += [future.result() for future in pending]
    write_coded(store, coded)


def write_coded(store: cache.Cache, coded: Sequence[Coded]) -> None:
    """Writes the coded records of a run as a shard, with the fidelity that they reached on average."""
    fidelity = {name: float(np.mean([reached[name] for *_, reached in coded])) for name in store.codecs}
    cache.write_shard(store, [code for code, _ in coded], fidelity=fidelity)


def encode(store: cache.Cache, record: Record, maps: Mapping[str, Tensor]) -> Coded:
    """Codes the maps (C, h, w) of one record and measures the fidelity that each reached.

    Raises:
        ValueError: a map cannot be coded; the message names it and its image.
    """
    codes, fidelity = {}, {}
    for name, features in maps.items():
        try:
            codes[name], fidelity[name] = store.codecs[name].encode_with_fidelity(features)
        except ValueError as error:  # noqa: PERF203 - a map each
            key, view = record
            raise ValueError(f"no code for map {name!r} of image {key[:12]} under view {view!r}: {error}") from error
    return (*record, codes), fidelity
