"""Extraction against the teacher's bare forward pass over the same decoded images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.bench.inputs import efficientnet, given, images_of, sam_vit_base, write_cache
from distill.bench.request import Request
from distill.config.schema import TeacherRecipe
from distill.extraction import teacher_inference
from distill.extraction.encode import Encoders, extract_shard
from distill.extraction.plan import read_record
from distill.extraction.teacher_inference import FeatureExtractor
from distill.runtime.progress import Progress
from distill.runtime.threads import workers_beside
from distill.runtime.timing import Row, interleaved, ratio, settle, work_ratio

BATCH = 8
IMAGES = 64  # through EfficientNet per round
SAM_ROUNDS = 3  # at most: an image takes ten seconds on one core


def extract_rows(request: Request) -> Iterator[Row]:
    """EfficientNet-B0 at strides 8 and 16; the architecture of SAM ViT-B on `sam` images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teacher = efficientnet(request, folder)
        images = images_of(request, IMAGES)
        real = bool(request.options.get("weights"))  # features by random weights are noise, which takes more bytes
        yield from rows_of("EfficientNet-B0" if real else "EfficientNet-B0, random weights", teacher, images,
                           folder=folder / "small", size=BATCH, at_least=0.85 if real else None,
                           rounds=request.rounds)  # fmt: skip
        if count := request.whole("sam", 2):
            rounds = min(SAM_ROUNDS, request.rounds)
            yield from rows_of("SAM ViT-B, random weights", sam_vit_base(folder), images_of(request, count),
                               folder=folder / "large", size=1, at_least=0.95, rounds=rounds)  # fmt: skip


def rows_of(
    name: str,
    teacher: Any,  # noqa: ANN401
    images: Sequence[np.ndarray],
    *,
    folder: Path,
    size: int,
    at_least: float | None,
    rounds: int,
) -> Iterator[Row]:
    """Images per second of an extraction (preparing, forward pass, coding, fidelity, shard) over those of the network.

    Args:
        name: of the teacher, for the table.
        teacher: the teacher; it is moved to the GPU, if there is one.
        images: uint8 (H, W, 3), decoded.
        folder: for the cache.
        size: images per forward pass.
        at_least: the wanted share of the bare rate, if any.
        rounds: of both sides.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher = teacher.to(device)
    samples = {sample.key: sample for sample in given(images)}
    read = partial(read_record, TeacherRecipe(), samples)
    pixels, valid = batches_of(teacher, images, size=size)
    seen = [teacher.forward(*pair) for pair in zip(pixels, valid, strict=True)]  # fitted on the extracted images
    maps = {entry: torch.cat([part[entry.name].cpu() for part in seen]) for entry in teacher.spec}
    copies = 4 if len(images) < 2 * BATCH else 1  # else the held-out quarter of few images would hardly be the average
    maps = {entry: part.repeat_interleave(copies, 0) for entry, part in maps.items()}
    keys = [f"{number:064x}" for number in range(copies * len(samples))]
    store = write_cache(folder, maps, keys=keys, identity=teacher.identity, batch_size=size)
    run = sorted((key, "identity") for key in samples)

    encoders = Encoders(store, processes=workers_beside(teacher.device))

    def extract() -> None:
        bar = Progress(name, total=len(run), unit="images", shown=False)
        batches = teacher_inference.batches_of(run, read, teacher=teacher, size=size)
        extract_shard(store, batches, FeatureExtractor(teacher, size=size), encoders, bar)

    actions: dict[str, Callable[[], object]] = {
        "extract": extract,
        "bare": lambda: settle([teacher.embed(part) for part in pixels]),
    }
    with encoders:
        taken = interleaved(actions, rounds=rounds, warm=0, what=f"extract {name}")
    work = f"{work_ratio(taken, 'bare', 'extract'):.3f} x in processor time"
    rates = {action: len(run) / timing.median for action, timing in taken.items()}
    yield Row(f"extraction over the bare forward pass, {name}", ratio(taken, "bare", "extract"), "x",
              at_least=at_least,
              note=f"{len(run)} images, {size} a pass, {device}: {rates['extract']:.3g} against {rates['bare']:.3g} "
              f"images/s (channels last, prepared), {work}")  # fmt: skip


def batches_of(teacher: Any, images: Sequence[np.ndarray], *, size: int) -> tuple[list[Tensor], list[Tensor]]:  # noqa: ANN401
    """The network's inputs, (size, 3, S, S) each, channels last, on its device; and the shares that images cover."""
    ready = [teacher.prepare(image) for image in images]
    pixels = torch.stack([one.pixels for one in ready])
    valid = torch.tensor([one.valid for one in ready], dtype=torch.float64)
    parts = [part.to(teacher.device, memory_format=torch.channels_last) for part in pixels.split(size)]
    return parts, list(valid.split(size))
