"""Batches of training samples, loaded by worker processes or in this process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from distill.distillation.dataset import TrainingSet
from distill.distillation.sampler import Batches
from distill.distillation.shared_memory import SILENT_SECONDS, check_shared_memory, in_time
from distill.runtime.threads import compute_alone

AHEAD = 4  # batches that a worker loads ahead


def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Stacks the samples of a batch: tensors (...) become (N, ...)."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def start_worker(_: int) -> None:
    """Sets a worker process to one thread and ignores signals: the main process saves and then ends its workers."""
    compute_alone()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def loader(dataset: TrainingSet, batches: Batches, *, workers: int) -> Iterator[dict[str, Tensor]]:
    """The batches of one stage, tensors (N, ...) by name, loaded by `workers` processes (0: in this one).

    Raises:
        ValueError: shared memory does not hold the batches that they load ahead.
        RuntimeError: no batch has come for `SILENT_SECONDS`.
    """
    if workers:
        check_shared_memory(bytes_of_batch(dataset, batches), workers=workers, ahead=AHEAD)
    loaded = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=start_worker,
        prefetch_factor=AHEAD if workers else None,
        timeout=SILENT_SECONDS if workers else 0,
        multiprocessing_context="fork" if workers else None,
        pin_memory=torch.cuda.is_available(),  # so that the copy to the GPU overlaps the previous step
    )
    return in_time(loaded, workers=workers)


def bytes_of_batch(dataset: TrainingSet, batches: Batches) -> int:
    """The bytes of a process's largest batch, from its first image; codes of 8 bits may have 16 in other images."""
    places = next(iter(batches), [])
    if not places:
        return 0
    largest = (*places[0][:2], max(batches.sides)) if batches.sides else places[0]
    return len(places) * sum((1 + (tensor.dtype == torch.int8)) * tensor.nbytes for tensor in dataset[largest].values())
