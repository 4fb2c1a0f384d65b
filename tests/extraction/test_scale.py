"""Scale: what an extraction and an open cache hold in memory does not grow with what it should not grow with."""

from __future__ import annotations

import sys
import time
import tracemalloc
import weakref

import pytest
from small_extraction import CellTeacher, extraction_job, noisy

import cache
from cache.shard import SIZE
from distill.bench.scale import CODES, keys_of, make_cache
from distill.extraction.extract import extract


class Counted:
    """The number of objects shown to it that are alive, and the most that were at once."""

    def __init__(self):
        self.alive = self.most = 0

    def watch(self, thing):
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(thing, self.forget)
        return thing

    def forget(self):
        self.alive -= 1


def most_alive(folder, monkeypatch, *, images):
    """Decoded images, and prepared ones, that an extraction holds at once."""
    read, prepared = Counted(), Counted()
    teacher = CellTeacher()
    prepare = teacher.prepare

    def watched(image):
        ready = prepare(image)
        prepared.watch(ready.pixels)
        return ready

    teacher.prepare = watched
    monkeypatch.setattr(sys.modules["distill.extraction.extract"], "load_teacher", lambda *_: teacher)
    extract(extraction_job(folder, images=images, read=lambda seed: read.watch(noisy(seed))))
    assert read.alive == prepared.alive == 0
    return read.most, prepared.most


def test_an_extraction_holds_two_batches_of_images_however_many_there_are(tmp_path, monkeypatch):
    for images in (20, 150):
        read, prepared = most_alive(tmp_path / f"{images}", monkeypatch, images=images)
        assert read <= 6 and prepared <= 3 * 3  # batches of three: one in the teacher, one ahead, one being let go


def bytes_a_record(folder, count):
    """Memory that an open cache keeps for each record."""
    tracemalloc.start()
    store = cache.open(folder)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(store) == count
    return kept / count


def test_an_open_cache_keeps_less_than_a_hundred_bytes_a_record(tmp_path):
    folder, keys = tmp_path / "cache", keys_of(20 * SIZE)
    make_cache(len(keys), tmp_path)
    cache.open(folder)  # what the libraries keep for themselves
    assert bytes_a_record(folder, len(keys)) < 100
    store = cache.open(folder)
    assert store.read(keys[777], "identity", map="neck") == CODES["neck"]
    assert (keys[0][:-1] + "0", "hflip") not in store


@pytest.mark.study
@pytest.mark.timeout(1200)
def test_a_million_records_open_in_less_than_a_second(tmp_path, capsys):
    folder, keys = tmp_path / "cache", keys_of(3907 * SIZE)
    make_cache(len(keys), tmp_path)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        store = cache.open(folder)
        seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    for key in keys[::1000]:
        assert store.read(key, "identity", map="neck") == CODES["neck"]
    each = (time.perf_counter() - began) / len(keys[::1000])
    kept = bytes_a_record(folder, len(keys))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(keys):,} records in {len(store.shards):,} shards open in {min(seconds):.2f} to "
            f"{max(seconds):.2f} s and take {kept:.0f} bytes each; reading one by its key takes {1e3 * each:.2f} ms\n"
        )
    assert min(seconds) < 1
    assert kept < 100
