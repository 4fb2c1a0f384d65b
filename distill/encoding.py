"""From what a teacher says to shards: coding goes on while the teacher looks at the next batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from torch import Tensor

import cache
from distill.looking import Batch, Looker, Record
from distill.progress import Progress

ENCODERS = 1  # threads that encode what the teacher said of the last batch

Coded = tuple[tuple[str, str, dict[str, dict[str, bytes]]], dict[str, float]]  # a coded record, fidelity of each map


def write_run(
    store: cache.Cache,
    batches: Iterable[Batch],
    looker: Looker,
    encoders: ThreadPoolExecutor,
    bar: Progress,
    *,
    rounded: bool = False,
) -> None:
    """Sends one run of records through the teacher and writes their shard; encoding overlaps the next batch.

    If `rounded`, maps are coded as `distill.calibrate.look` keeps them, in half precision.
    """
    pending: deque[Future[list[Coded]]] = deque()
    coded: list[Coded] = []
    for batch in batches:
        maps = looker(batch)
        if rounded:
            maps = {name: features.half() for name, features in maps.items()}
        pending.append(encoders.submit(encode, store, batch.records, maps))
        if len(pending) > ENCODERS:
            coded += pending.popleft().result()
        bar.update(len(batch.records))
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
