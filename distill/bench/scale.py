"""`distill bench what=scale`: the cost of very many images apart from their pixels (no pixels are used here).

Memory is read from /proc, so this needs Linux.
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from distill.bench.request import Request
from distill.runtime.timing import Row, told

SIZES = "10000,100000"
KEYS = {
    "sizes": f"numbers of images, separated by commas ({SIZES})",
    "parts": "parts to measure, separated by commas: steps, folder, cache (all)",
}
LINKS = 50_000  # at most: hard links to one file; file systems allow 65,000
STEPS, BATCH, WRITES = 1000, 16, 20
SIZE = (288, 384)  # of every image by the file index
CODES = {"neck": {"low": b"low", "high": b"the high band"}}

Result = TypeVar("Result")
Figures = dict[str, tuple[float, float, float]]  # CPU seconds, seconds passed, additional GB


class Watch:
    """Seconds and memory of parts of a process; memory is the peak so far."""

    def __init__(self) -> None:
        self.figures: Figures = {}
        gc.collect()
        self.before = _peak()

    def time(self, name: str, action: Callable[[], Result], *, times: int = 1) -> Result:
        """Runs an action and keeps its time, divided by `times`, and its memory."""
        worked, began = time.process_time(), time.perf_counter()
        result = action()
        seconds = ((time.process_time() - worked) / times, (time.perf_counter() - began) / times)
        self.figures[name] = (*seconds, _peak() - self.before)
        return result


def _peak() -> float:
    """The peak memory of this process in GB; `ru_maxrss` would include that of its parent process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1e6


def measure(request: Request) -> list[Row]:
    """The rows of every part at every size.

    Raises:
        ValueError: a size is not a number, or there is no such part.
    """
    sizes = request.options.get("sizes", SIZES).split(",")
    parts = request.options.get("parts", ",".join(PARTS)).split(",")
    for size in sizes:
        if not size.isdecimal() or int(size) < 2:
            raise ValueError(f"sizes holds {size!r}, but must be whole numbers from 2 on, separated by commas")
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"parts holds {part!r}; choose from {', '.join(PARTS)}")
    return told(row for size in sizes for part in parts for row in rows_of(part, int(size)))


def rows_of(part: str, count: int) -> Iterator[Row]:
    """The rows of one part at one size."""
    make, use = PARTS[part]
    with tempfile.TemporaryDirectory() as folder:
        if make is not None:
            in_own_process(make, count, folder)
        for name, (worked, passed, memory) in in_own_process(use, count, folder).items():
            yield Row(f"{count:,} images: {name}", worked, "s", note=f"{passed:.3g} s passed, {memory:.2f} GB")


def in_own_process(part: Callable[[int, Path], Figures | None], count: int, folder: str) -> Figures:
    """The figures of a part, measured in its own process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(part, (count, Path(folder))) or {}


def make_folder(count: int, folder: Path) -> None:
    """Makes names of images and masks, which link to empty files, and a file index that holds them all."""
    from distill.data.file_index import Facts, FileIndex, stamps_of

    index = FileIndex.load(folder / "home")
    for kind, part in (("image", "images"), ("mask", "masks")):
        place = folder / "data" / part
        place.mkdir(parents=True)
        files = [str(place / f"frame-{number:08d}.png") for number in range(count)]
        for number, file in enumerate(files):
            if number % LINKS:
                os.link(files[number - number % LINKS], file)
            else:
                Path(file).touch()
        keys = (hashlib.sha256(f"{kind} {number}".encode()).hexdigest() for number in range(count))
        facts = [Facts(key, SIZE, high=255 * (kind == "mask")) for key in keys]
        index.record([(kind, file) for file in files], stamps_of(files), facts=facts)
    index.save()


def open_folder(count: int, folder: Path) -> Figures:
    """Measures opening a folder that has not changed since the last time."""
    from distill.config.schema import DataRecipe
    from distill.data.sources.open_data import open_data

    watch, data = Watch(), DataRecipe(name="folder", root=str(folder / "data"))
    splits = watch.time("open the data again", lambda: open_data(data, home=folder / "home"))
    watch.time("digest of the splits", lambda: splits.digest)
    assert len(splits.train) + len(splits.val) + sum(map(len, splits.test.values())) == count
    return watch.figures


def keys_of(count: int) -> list[str]:
    """Sorted keys for `count` images."""
    return sorted(hashlib.sha256(number.to_bytes(4, "big")).hexdigest() for number in range(count))


def make_cache(count: int, folder: Path) -> None:
    """Makes a cache with `count` nearly empty records."""
    import torch

    import cache
    from cache.shard import SIZE, pack
    from cache.spec import FeatureSpec, MapSpec

    noise = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    store = cache.create(
        folder / "cache",
        spec=FeatureSpec((MapSpec("neck", 2, (4, 4), 16),)),
        codecs={"neck": cache.fit(noise, fidelity=0.8)},
        identity={"teacher": "none"},
        licence="Apache-2.0",
        fidelity=0.8,
        batch_size=1,
        views=("identity", "hflip"),
        calibration=[],
    )
    keys = keys_of(count)
    for first in range(0, count, SIZE):
        records = [(key, "identity", CODES) for key in keys[first : first + SIZE]]
        name, data = pack(records, manifest=store.manifest.digest, fidelity={"neck": 0.8})
        (store.path / name).write_bytes(data)


def use_cache(count: int, folder: Path) -> Figures:
    """Measures opening a cache, looking up records, writing further ones, and verifying every byte."""
    import cache

    _ = cache.open, cache.plan, cache.verify, cache.write_shard  # so that their imports are not measured
    keys, others = keys_of(count), [hashlib.sha256(bytes([number])).hexdigest() for number in range(WRITES)]
    records, watch = [(key, "identity") for key in keys], Watch()
    store = watch.time("open the cache", lambda: cache.open(folder / "cache"))
    missing = watch.time("look every record up", lambda: store.missing(records))
    wanted = [*records, *((key, "hflip") for key in others)]
    lacking = watch.time("plan what is missing", lambda: cache.plan(store, wanted))

    def write() -> None:
        for key in others:
            cache.write_shard(store, [(key, "hflip", CODES)], fidelity={"neck": 0.8})

    watch.time("write one shard", write, times=WRITES)
    watch.time("verify every byte", lambda: cache.verify(folder / "cache"))
    assert not missing and sum(map(len, lacking)) == WRITES
    return watch.figures


def draw_batches(count: int, _: Path) -> Figures:
    """Measures drawing the indices of a step's images."""
    from distill.distillation.sampler import Batches

    watch = Watch()
    batches = Batches(images=count, batch=min(BATCH, count), seed=0, start=0, stop=STEPS, rank=0, ranks=1)
    watch.time("draw the images of one step", lambda: list(batches), times=STEPS)
    return watch.figures


PARTS: dict[str, tuple[Callable[[int, Path], None] | None, Callable[[int, Path], Figures]]] = {
    "steps": (None, draw_batches),
    "folder": (make_folder, open_folder),
    "cache": (make_cache, use_cache),
}
"""For each part: the function that makes its files, and the one that measures."""
