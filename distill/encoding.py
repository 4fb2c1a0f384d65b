"""From images to shards: reading, the teacher's forward pass, coding and writing, each while the others go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cache
from cache.spec import flip
from distill.data.sample import Sample
from distill.progress import Progress

DECODERS = 2  # threads that read and preprocess images while the teacher looks at the last batch
ENCODERS = 1  # threads that encode what the teacher said of the last batch

Record = tuple[str, str]  # key of an image, view
Coded = tuple[tuple[str, str, dict[str, dict[str, bytes]]], dict[str, float]]  # a coded record, fidelity of each map


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


def write_run(
    store: cache.Cache,
    run: Sequence[Record],
    samples: dict[str, Sample],
    teacher: Any,  # noqa: ANN401
    encoders: ThreadPoolExecutor,
    bar: Progress,
    *,
    rounded: bool = False,
) -> None:
    """Sends one run of records through the teacher and writes their shard; encoding overlaps the next batch.

    If `rounded`, maps are coded as `look` keeps them, in half precision.
    """
    pending: deque[Future[list[Coded]]] = deque()
    coded: list[Coded] = []
    for part, pixels, valid in batches_of(run, samples, teacher, size=store.batch_size):
        seen = teacher.forward(pixels, valid).items()
        maps = {name: (features.half() if rounded else features).cpu() for name, features in seen}
        pending.append(encoders.submit(encode, store, part, maps))
        if len(pending) > ENCODERS:
            coded += pending.popleft().result()
        bar.update(len(part))
    for future in pending:
        coded += future.result()
    write_coded(store, coded)


def write_coded(store: cache.Cache, coded: Sequence[Coded]) -> None:
    """Writes the coded records of a run as a shard, with the fidelity that they reached on average."""
    fidelity = {name: float(np.mean([reached[name] for *_, reached in coded])) for name in store.codecs}
    cache.write_shard(store, [code for code, _ in coded], fidelity=fidelity)


def encode(store: cache.Cache, part: Sequence[Record], maps: dict[str, Tensor]) -> list[Coded]:
    """Codes a batch of maps (N, C, h, w) and measures the fidelity that each record reached."""
    coded = []
    for index, (key, view) in enumerate(part):
        judged = {name: store.codecs[name].encode_judged(features[index]) for name, features in maps.items()}
        codes = {name: code for name, (code, _) in judged.items()}
        coded.append(((key, view, codes), {name: reached for name, (_, reached) in judged.items()}))
    return coded
