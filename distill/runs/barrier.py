"""Waiting for other processes, however long the work of one takes.

Collectives give up after torch's ordinary timeout (10 minutes with NCCL, 30 with gloo), so a process that hangs ends
the job. Fitting codes, publishing, or another run's lock can take the first process longer; the others then check
every second whether it has arrived.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState
    from torch.distributed import Store

LONGEST_SECONDS = 86_400.0
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0  # seconds between two checks, doubled each time
TELL_SECONDS = 600.0

Decision = TypeVar("Decision")
_numbers = count()
logger = logging.getLogger("bandpass")


def wait_for_all(accelerator: Accelerator | PartialState) -> None:
    """Returns on every process once all have called it.

    Raises:
        TimeoutError: one has not arrived within a day.
    """
    import torch

    if accelerator.num_processes > 1 and torch.distributed.is_initialized():
        store = torch.distributed.distributed_c10d._get_default_store()
        meet(store, f"bandpass/{next(_numbers)}", rank=accelerator.process_index, processes=accelerator.num_processes)
    accelerator.wait_for_everyone()  # else a process could leave, and end the store, before others have seen all


def agree(accelerator: Accelerator, decide: Callable[[], Decision]) -> Decision:
    """The first process's decision, on all processes, however long it takes."""
    from accelerate.utils import broadcast_object_list

    decision = [decide() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        wait_for_all(accelerator)
        broadcast_object_list(decision)
    return cast("Decision", decision[0])


def leave_together() -> None:
    """Waits for other processes, if any, and disconnects: gloo aborts a process whose partners have left."""
    from accelerate import PartialState

    state = PartialState()
    if state.num_processes > 1:
        wait_for_all(state)
        state.destroy_process_group()


def meet(store: Store, name: str, *, rank: int, processes: int) -> None:
    """Returns when every process has called it with this name.

    Args:
        store: the store that all processes share.
        name: a new name for each barrier.
        rank: of this process.
        processes: number of processes.

    Raises:
        TimeoutError: one has not arrived within `LONGEST_SECONDS`.
    """
    store.set(f"{name}/{rank}", "")
    began, told, pause = time.monotonic(), 0.0, FIRST_PAUSE
    while not store.check([f"{name}/{other}" for other in range(processes)]):
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
        waited = time.monotonic() - began
        if waited - told < TELL_SECONDS and waited < LONGEST_SECONDS:
            continue
        told, away = waited, [other for other in range(processes) if not store.check([f"{name}/{other}"])]
        sentence = f"process {rank} has waited {waited / 60:.0f} minutes for {', '.join(map(str, away))}"
        if waited >= LONGEST_SECONDS:
            raise TimeoutError(f"{sentence}; find out what blocks it, and run the same command again")
        logger.info("%s", sentence)
