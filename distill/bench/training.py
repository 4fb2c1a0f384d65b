"""`distill bench what=train`: a training step with cached targets against one without, and with a live teacher."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cache
from cache.series import dct, series
from distill.bench.delivery import delivery_rows
from distill.bench.inputs import LARGE, SMALL, images_of, sam_vit_base
from distill.bench.request import Request
from distill.bench.untrained import Case, state_of
from distill.distillation.loading import loader
from distill.runtime.hardware import precision_here
from distill.runtime.threads import usable_cores, workers_beside
from distill.runtime.timing import Row, interleaved, ratio, settle, told, work_ratio
from distill.training.parameters import set_frozen
from distill.training.state import TrainingState
from distill.training.train import batches_of, train_step

KEYS = {
    "images": "folder of pictures; default: generated frames",
    "batch": "images per step (16; for U-Net on a CPU 4)",
    "precision": "fp32, bf16 (default) or fp16",
    "workers": "processes that load and decode; 0: the main process does (default: as in training)",
    "live": "images per step whose features SAM ViT-B computes live (1); 0 leaves it out",
}
LIVE_ROUNDS = 3  # at most: an image takes ten seconds on one core
BATCH = 16  # with a GPU, which would wait for Python with a smaller batch

CASES = (
    Case("unet", 32, 352, 4, SMALL, 1.05),
    Case("unet", 32, 352, 4, LARGE, None),
    Case("microaunet", 8, 256, 16, SMALL, 1.25),
)
DELIVERED = Case("microaunet", 8, 352, 16, LARGE, None)


def measure(request: Request) -> list[Row]:
    """The rows of every case, of the delivery of batches, and of the live teacher."""
    images = request.whole("live", 1)
    live = live_rows(request, replace(CASES[1], batch=images)) if images else ()
    cases = chain.from_iterable(case_rows(request, case) for case in CASES)
    delivered = replace(DELIVERED, batch=request.whole("batch", DELIVERED.batch))
    return told(chain(cases, delivery_rows(request, delivered), live))


def case_rows(request: Request, case: Case) -> Iterator[Row]:
    """A step with imitation against the same step without: loading, decoding, forward, backward, optimiser."""
    case = replace(case, batch=request.whole("batch", BATCH if torch.cuda.is_available() else case.batch))
    with tempfile.TemporaryDirectory() as folder:
        steps = {name: stepper(state_of(request, case, Path(folder), distilled=name == "distilled"), request)
                 for name in ("baseline", "distilled")}  # fmt: skip
        taken = interleaved(steps, rounds=request.rounds, what=f"train {case.student}")
    spent = {name: 1e3 * timing.median for name, timing in taken.items()}
    note = (
        f"{conditions(request, case)}: {spent['distilled']:,.0f} against {spent['baseline']:,.0f} ms, "
        f"{work_ratio(taken, 'distilled', 'baseline'):.3f} x in processor time"
    )
    slower = ratio(taken, "distilled", "baseline")
    yield Row(f"step with cached targets, {case.title}", slower, "x", at_most=case.at_most, note=note)


def live_rows(request: Request, case: Case) -> Iterator[Row]:
    """A step whose targets a live SAM ViT-B (random weights) computes, against the step that reads them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = state_of(request, case, folder, distilled=True)
        step = stepper(state, request)
        teacher = sam_vit_base(folder).to(state.run.accelerator.device)
        images = images_of(request, case.batch)
        codec = next(iter(state.dataset.caches.values())).codecs[case.map.name]

        def live() -> None:
            compute_targets(teacher, images, codec, state)
            step()

        taken = interleaved({"cached": step, "live": live}, rounds=min(LIVE_ROUNDS, request.rounds), warm=1,
                            what="train with a live teacher")  # fmt: skip
    seconds = {name: timing.median for name, timing in taken.items()}
    yield Row(f"step with a live SAM ViT-B against the cached one, {case.title}", ratio(taken, "live", "cached"), "x",
              note=f"{conditions(request, case)}: {seconds['live']:.3g} against {seconds['cached']:.3g} s; the live "
              "step also reads the cache, which hardly counts")  # fmt: skip


def compute_targets(
    teacher: Any,  # noqa: ANN401
    images: Sequence[np.ndarray],
    codec: cache.Codec,
    state: TrainingState,
) -> None:
    """Computes targets without a cache: the teacher's forward pass on images uint8 (H, W, 3), and its maps on the grids
    of the targets.
    """
    spectrum = dct(codec.project(teacher(images)["neck"]))
    for grid in sorted({target.grid for target in state.targets}):
        series(spectrum, codec.grid, grid=grid)


def stepper(state: TrainingState, request: Request) -> Callable[[], object]:
    """A function that does one step of the training loop per call: the next batch and an optimiser step."""
    (span,) = state.plan.spans
    state.dataset.targets = state.targets
    set_frozen(state.student, [])
    workers = workers_of(request)
    batches = iter(loader(state.dataset, batches_of(state, span, start=0), workers=workers))
    numbers = count()
    return lambda: settle(train_step(state, span, next(numbers), next(batches)))


def workers_of(request: Request) -> int:
    """The number of loading processes: as asked for, or else as in training; `threads` has no effect here."""
    asked = request.whole("workers", 0) if "workers" in request.options else None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return workers_beside(device, asked=asked, cores=usable_cores())


def conditions(request: Request, case: Case) -> str:
    """Batch, precision, device and workers, in words."""
    device = "GPU" if torch.cuda.is_available() else "CPU"
    precision = precision_here(request.options.get("precision", "bf16"))
    return f"batch {case.batch}, {precision}, {device}, {workers_of(request)} workers"
