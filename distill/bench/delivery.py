"""The cost of a batch with SAM-sized targets for loading and training processes, as features and as integers."""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from distill.bench.request import Request
from distill.bench.untrained import Case, state_of
from distill.distillation.dataset import TrainingSet
from distill.distillation.device_targets import decode_targets
from distill.distillation.loading import collate, loader
from distill.runtime.timing import Row, Timing, interleaved, ratio
from distill.training.train import batches_of

MOST = 5.0  # ms of the training process


def delivery_rows(request: Request, case: Case) -> Iterator[Row]:
    """A batch whose targets the loading process decodes (as for a CPU), against one that the device decodes."""
    with tempfile.TemporaryDirectory() as folder:
        state = state_of(request, case, Path(folder), distilled=True)
        state.dataset.targets = state.targets
        sets = {"features": copy.copy(state.dataset), "integers": copy.copy(state.dataset)}
        sets["features"].on_device, sets["integers"].on_device = False, True
        index = next(iter(batches_of(state, state.plan.spans[0], start=0)))
        sizes = {
            name: sum(tensor.nbytes for tensor in targets_in(made(one, index))) / 1e6 for name, one in sets.items()
        }
        making = interleaved(
            {name: partial(made, one, index) for name, one in sets.items()}, rounds=request.rounds, what="make a batch"
        )
        batch = made(sets["integers"], index)
        decoding = interleaved(
            {"decode": partial(decode_targets, batch, state.targets, state.dataset.caches)}, rounds=request.rounds,
            what="decode a batch",
        )  # fmt: skip
        loaded = {
            name: iter(loader(one, batches_of(state, state.plan.spans[0], start=0), workers=1))
            for name, one in sets.items()
        }
        taking = interleaved(
            {name: taker(batches) for name, batches in loaded.items()}, rounds=request.rounds, what="take a batch"
        )
    title = f"batch of {case.batch} with {len(state.targets)} targets, {case.title}"
    yield Row(f"{title}: bytes as features / as integers", sizes["features"] / sizes["integers"], "x",
              note=f"{sizes['features']:.1f} against {sizes['integers']:.1f} MB")  # fmt: skip
    yield Row(f"{title}: a loading process, features / integers", ratio(making, "features", "integers"), "x",
              note=f"{milliseconds(making['features']):,.0f} against {milliseconds(making['integers']):,.0f} ms with "
              f"images; to decode the integers takes this CPU {milliseconds(decoding['decode']):,.0f} ms")  # fmt: skip
    yield Row(f"{title}: the training process takes the integers in", milliseconds(taking["integers"]), "ms",
              at_most=MOST, note=f"processor time; features {milliseconds(taking['features']):.1f} ms")  # fmt: skip


def made(dataset: TrainingSet, index: list[tuple[int, ...]]) -> dict[str, Tensor]:
    """The batch with these indices, as a loading process makes it."""
    return collate([dataset[place] for place in index])


def taker(batches: Iterator[dict[str, Tensor]]) -> Callable[[], object]:
    """A function that takes the next batch from a loading process and copies its targets out of shared memory."""
    pinned = torch.cuda.is_available()
    return lambda: [tensor if pinned else tensor.clone() for tensor in targets_in(next(batches))]


def targets_in(batch: dict[str, Tensor]) -> list[Tensor]:
    """The tensors of a batch except images and masks."""
    return [tensor for name, tensor in batch.items() if name not in ("image", "mask")]


def milliseconds(timing: Timing) -> float:
    """The median CPU time in milliseconds."""
    return 1e3 * statistics.median(timing.work)
