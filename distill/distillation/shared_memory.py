"""Shared memory, through which worker processes hand over their batches, and a loader that does not wait for ever.

Containers have 64 MB of it by default. If it is full, a worker writes an error to standard error and loses the batch,
for which the loader would wait.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from distill.runtime.threads import local_processes

SHARED_MEMORY = Path("/dev/shm")
SILENT_SECONDS = 600  # without a batch, after which the workers count as dead
IN_USE = 2  # batches no longer waiting: one in the step, one on the way to it

Batch = TypeVar("Batch")


def check_shared_memory(batch: int, *, workers: int, ahead: int) -> None:
    """Raises ValueError unless the batches that are loaded ahead fit into shared memory.

    Args:
        batch: bytes of one batch.
        workers: number of loading processes.
        ahead: batches that each loads ahead.
    """
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:  # not Linux
        return
    free, total = (blocks * status.f_frsize for blocks in (status.f_bavail, status.f_blocks))
    batches = workers * ahead + IN_USE
    needed, processes = batches * batch, local_processes()
    if needed > free or processes * needed > total:
        shared = f" in each of {processes} processes" if processes > 1 else ""
        raise ValueError(
            f"workers={workers} hold up to {batches} batches of {batch / 1e6:.1f} MB in shared memory{shared}, but "
            f"{SHARED_MEMORY} has {free / 1e6:.0f} of {total / 1e6:.0f} MB free; {cure(processes * needed)}"
        )


def cure(needed: float) -> str:
    """The remedy for too little shared memory, as the end of a sentence."""
    return (
        f"start the container with --shm-size={max(1, round(1.5 * needed / 1e9))}g or --ipc=host, or set workers=0, "
        "to load in the training process"
    )


def in_time(batches: Iterable[Batch], *, workers: int) -> Iterator[Batch]:
    """Yields the batches of a loader.

    Raises:
        RuntimeError: no batch has come for `SILENT_SECONDS`.
    """
    try:
        yield from batches
    except RuntimeError as error:
        if not str(error).startswith("DataLoader timed out"):
            raise
        raise RuntimeError(
            f"no batch has come from {workers} workers for {SILENT_SECONDS} s; the lines above may say why. If "
            f"{SHARED_MEMORY} is full, {cure(1e9)}"
        ) from error
