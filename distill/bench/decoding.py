"""Decoding to the student's grid with a random crop, against loading raw maps and resizing them."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import cache
from cache import native
from cache.series import Box
from cache.spec import MapSpec
from distill.bench.inputs import LARGE, SMALL, drawn_maps, write_cache
from distill.bench.request import Request
from distill.data.augment import draw_box
from distill.runtime.timing import Row, interleaved, ratio, work_ratio

RECORDS = 16  # in a cache, each read once per round
GRIDS = ((22, 22), (44, 44))  # of a student at 352 pixels, strides 16 and 8
PICKLED, RESIZED = (768, 16, 16), (64, 64)  # a map as Polyp-DiFoM's code stores it, and the size to which it is resized


def decode_rows(request: Request) -> Iterator[Row]:
    """An EfficientNet-sized map and SAM's, both bands, on each grid; all files are in the page cache."""
    random = np.random.default_rng(0)
    boxes = [draw_box(0.6, random) for _ in range(RECORDS)]
    keys = [f"{number:064x}" for number in range(RECORDS)]
    for entry in (SMALL, LARGE):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            maps = drawn_maps(RECORDS, entry)
            store = write_cache(folder / "cache", {entry: maps}, keys=keys)
            turned = write_cache(folder / "shells", {entry: maps}, keys=keys, shells=True)
            pickled = write_pickles(folder)
            mapped = write_mapped(folder, maps)
            for grid in GRIDS:
                actions: dict[str, Callable[[], object]] = {
                    "code": partial(decode, store, entry, keys, boxes, grid=grid),
                    "pickle": partial(load_pickles, pickled),
                    "mapped": partial(crop_mapped, mapped, boxes, grid=grid),
                    "shells": partial(decode, turned, entry, keys, boxes, grid=grid),
                }
                yield from compare(request, actions, store, entry, grid)


def compare(
    request: Request, actions: dict[str, Callable[[], object]], store: cache.Cache, entry: MapSpec, grid: Sequence[int]
) -> Iterator[Row]:
    """The rows of one map on one grid."""
    shape = " x ".join(map(str, (entry.channels, *entry.grid)))
    taken = interleaved(actions, rounds=request.rounds, what=f"decode {shape}")
    each = {name: 1e3 * timing.median / RECORDS for name, timing in taken.items()}
    figure = f"decode {shape} to {grid[0]} x {grid[1]}, random crop"
    work = f"{work_ratio(taken, 'pickle', 'code'):.2f} x in processor time"
    how = "compiled" if native.library else "in Python"
    note = f"fidelity 0.95, {sum(store.band_bytes()[entry.name].values()):,.0f} bytes; {how}, {each['code']:.2f} ms"
    yield Row(f"{figure}: DiFoM's pickle takes", ratio(taken, "pickle", "code"), "x", at_least=3,
              note=f"{note} against {each['pickle']:.2f} ms, {work}")  # fmt: skip
    yield Row(f"{figure}: a mapped fp16 file takes", ratio(taken, "mapped", "code"), "x",
              note=f"{each['mapped']:.2f} ms")  # fmt: skip
    yield Row(f"{figure}: a code with cache.shells takes", ratio(taken, "shells", "code"), "x",
              note=f"{each['shells']:.2f} ms; drawn maps, whose axes are those of all shells")  # fmt: skip


def decode(
    store: cache.Cache, entry: MapSpec, keys: Sequence[str], boxes: Sequence[Box], *, grid: tuple[int, int]
) -> list[Tensor]:
    """All records, read from their shards and decoded in their boxes: maps (K, *grid)."""
    return [
        store.decode(key, "identity", map=entry.name, box=box, grid=grid) for key, box in zip(keys, boxes, strict=True)
    ]


def write_pickles(folder: Path) -> list[Path]:
    """Writes one pickled fp32 map per image, as Polyp-DiFoM's code does."""
    files = [folder / f"{number}.pkl" for number in range(RECORDS)]
    for number, file in enumerate(files):
        file.write_bytes(pickle.dumps(np.random.default_rng(number).standard_normal(PICKLED, np.float32)))
    return files


def load_pickles(files: Sequence[Path]) -> list[Tensor]:
    """All maps, loaded and resized to (768, 64, 64) as by that code, which does not crop."""
    maps = []
    for file in files:
        with file.open("rb") as stream:
            loaded = torch.from_numpy(pickle.load(stream))  # written above
        maps.append(interpolate(loaded[None], RESIZED, mode="bilinear")[0])
    return maps


def write_mapped(folder: Path, maps: Tensor) -> np.ndarray:
    """Writes the maps (N, C, h, w) in half precision to one file and maps it into memory."""
    file = folder / "maps.npy"
    np.save(file, maps.half().numpy())
    return np.load(file, mmap_mode="r")


def crop_mapped(maps: np.ndarray, boxes: Sequence[Box], *, grid: tuple[int, int]) -> list[Tensor]:
    """All maps, cut to the cells that their box touches, resized to (C, *grid): slightly off, aliased if coarser."""
    rows, columns = maps.shape[-2:]
    found = []
    for one, (y0, x0, y1, x1) in zip(maps, boxes, strict=True):
        cut = one[:, int(y0 * rows) : int(np.ceil(y1 * rows)), int(x0 * columns) : int(np.ceil(x1 * columns))]
        found.append(interpolate(torch.from_numpy(cut.astype(np.float32))[None], grid, mode="bilinear")[0])
    return found
