"""Faults while a teacher's features are extracted: kills, damage, a full disk; nothing lost, nothing silently wrong."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count

import pytest
import torch
from small_extraction import CellTeacher, content, extraction_job

import cache
from cache.spec import FeatureSpec, MapSpec
from distill.extraction import cache_state, calibrate
from distill.extraction.cost import PROBED, memory_to_fit
from distill.extraction.extract import extract

EXTRACTING = sys.modules["distill.extraction.extract"]


@pytest.fixture
def teacher(monkeypatch):
    """The teacher that every extraction of a test loads."""
    one = CellTeacher()
    monkeypatch.setattr(EXTRACTING, "load_teacher", lambda *_: one)
    logging.getLogger("bandpass").setLevel(logging.CRITICAL)
    yield one
    logging.getLogger("bandpass").setLevel(logging.INFO)


def features(run):
    return run.caches["cells"]


def extracted(folder, **facts):
    """The content of the cache of an extraction that nothing disturbs."""
    run = extraction_job(folder, **facts)
    extract(run)
    return content(features(run))


def test_calibration_images_pass_the_teacher_once(teacher, tmp_path):
    run = extraction_job(tmp_path)
    assert extract(run) == {"cells": 20 * 2 + 2}
    assert teacher.seen == 20 * 2 + 2 + 1 + PROBED  # the estimate has looked at a few before
    assert extract(run) == {"cells": 0}
    assert len(cache.open(features(run))) == 42


def test_a_kill_before_the_calibration_images_are_written_ends_bit_identical(teacher, tmp_path, monkeypatch):
    whole = extracted(tmp_path / "straight")
    run = extraction_job(tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "write_coded", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(run)
    assert len(cache.open(features(run))) == 0
    extract(run)
    assert content(features(run)) == whole


@pytest.mark.parametrize("name", ["shard", "manifest", "codec-neck"])
def test_one_damaged_file_of_a_complete_cache_is_put_right_by_the_next_extraction(teacher, tmp_path, name):
    run = extraction_job(tmp_path)
    extract(run)
    whole, draw = content(features(run)), random.Random(0)
    file = next(features(run).glob(f"{name}*"))
    for case in range(6):
        teacher.seen = 0
        damage(file, draw, cut=case % 3 == 0)
        assert [problem.file for problem in cache.verify(features(run))] == [file.name]
        extract(run)
        assert content(features(run)) == whole
        assert teacher.seen == {"shard": 8, "manifest": 0, "codec-neck": 8}[name] or name == "shard"


def damage(file, draw, *, cut, place=None):
    """Cuts a file off, or flips one bit of it, at a place or somewhere."""
    good = file.read_bytes()
    place = draw.randrange(len(good)) if place is None else place
    flipped = good[:place] + bytes([good[place] ^ 1 << draw.randrange(8)]) + good[place + 1 :]
    file.write_bytes(good[:place] if cut else flipped)


def test_manifest_and_statistics_damaged_together_are_fitted_anew(teacher, tmp_path):
    run = extraction_job(tmp_path)
    extract(run)
    whole = content(features(run))
    for name in ("manifest.json", "codec-p3.safetensors"):
        (features(run) / name).write_bytes(whole[name][:-3])
    extract(run)
    assert content(features(run)) == whole


def test_statistics_are_written_again_whatever_batch_size_the_recipe_says_now(teacher, tmp_path, monkeypatch):
    forward = CellTeacher.forward

    def rounding(self, pixels, valid):  # as kernels do, whose order of summing hangs on the batch
        return {name: maps * (1 + 1e-3 * len(pixels)) for name, maps in forward(self, pixels, valid).items()}

    monkeypatch.setattr(CellTeacher, "forward", rounding)
    run = extraction_job(tmp_path)
    extract(run)
    whole = content(features(run))
    (features(run) / "codec-p3.safetensors").unlink()
    larger = {"cells": replace(run.recipe.teachers["cells"], batch_size=8)}
    extract(replace(run, recipe=replace(run.recipe, teachers=larger)))
    assert content(features(run)) == whole


def test_a_cache_is_looked_at_once_while_its_files_stay_the_same(teacher, tmp_path, monkeypatch, caplog):
    run, looked = extraction_job(tmp_path), []
    extract(run)
    monkeypatch.setattr(cache_state, "LONG", 1)
    monkeypatch.setattr(cache, "verify", lambda folder, verify=cache.verify: looked.append(folder) or verify(folder))
    with caplog.at_level(logging.INFO, logger="bandpass"):
        extract(run), extract(run)
    assert looked == [features(run)]
    assert caplog.text.count(f"verifying {features(run)}, 0.0 MB") == 1
    os.utime(features(run) / "manifest.json")
    extract(run)
    assert len(looked) == 2


def test_a_shard_that_the_disk_gives_no_longer_is_named(teacher, tmp_path, monkeypatch):
    run = extraction_job(tmp_path)
    extract(run)

    def broken(file):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("cache.verification._sha256", broken)
    whole = content(features(run))
    cache_state.is_sound.cache_clear()
    with pytest.raises(OSError, match=r"it cannot be read: Input/output error; if that persists, remove it and extr"):
        extract(run)
    problems = cache.verify(features(run))
    assert {problem.file for problem in problems} == {path.name for path in features(run).glob("shard-*")}
    assert content(features(run)) == whole


def test_a_shard_of_another_cache_stays_and_is_in_nobodys_way(teacher, tmp_path, monkeypatch):
    run, other = extraction_job(tmp_path / "own"), extraction_job(tmp_path / "other", images=21)
    extract(run)
    with monkeypatch.context() as patch:
        patch.setattr(CellTeacher, "identity", {"teacher": "cells", "weights": "f" * 64})
        extract(other)
    for shard in features(other).glob("shard-*"):
        shutil.copy(shard, features(run))
    before, teacher.seen = content(features(run)), 0
    extract(run)
    assert (content(features(run)), teacher.seen) == (before, 0)


def test_memory_that_the_machine_has_not_is_told_before_the_teacher_looks(teacher, tmp_path, monkeypatch, caplog):
    large = FeatureSpec((MapSpec("a", 256, (256, 256), 4), MapSpec("b", 256, (128, 128), 8)))
    run = extraction_job(tmp_path, images=400, calibration=256)
    needed = memory_to_fit(256, large)  # 256 images in half precision; 64 of the larger map twice in single
    assert needed == 256 * 2 * (256**3 + 256 * 128**2) + 64 * 2 * 4 * 256**3
    monkeypatch.setattr("distill.extraction.cost.memory_to_fit", lambda *_: needed)
    monkeypatch.setattr("distill.extraction.cost.memory_of_machine", lambda: needed - 1)
    with pytest.raises(ValueError, match=r"takes 19\.33 GB of memory, but this machine has .*below 256 images, or"):
        extract(run)
    assert teacher.seen == 0
    monkeypatch.setattr("distill.extraction.cost.memory_of_machine", lambda: None)
    with caplog.at_level(logging.INFO, logger="bandpass"):
        extract(extraction_job(tmp_path / "small"))
    assert "; fitting the code takes 19.33 GB of memory" in caplog.text


def test_a_map_of_one_image_that_is_not_finite_is_named(teacher, tmp_path, monkeypatch):
    forward, run = CellTeacher.forward, extraction_job(tmp_path)
    last = run.splits.train[-1]

    def broken(self, pixels, valid):
        bad = pixels == torch.from_numpy(last.read_image()).permute(2, 0, 1).float() / 255
        maps = forward(self, pixels, valid)
        maps["p3"][bad.flatten(1).all(1)] = torch.nan
        return maps

    monkeypatch.setattr(CellTeacher, "forward", broken)
    fitted = sorted(run.splits.train[:8], key=lambda sample: sample.key)
    monkeypatch.setattr("distill.data.sample.Splits.calibration", lambda *_: fitted)
    message = rf"no code for map 'p3' of image {last.key[:12]} under view 'identity': a feature map holds infinite"
    with pytest.raises(ValueError, match=message):
        extract(run)


def test_maps_that_do_not_vary_are_named(teacher, tmp_path, monkeypatch):
    forward = CellTeacher.forward
    monkeypatch.setattr(
        CellTeacher, "forward", lambda self, *seen: {n: m * (n == "neck") for n, m in forward(self, *seen).items()}
    )
    with pytest.raises(ValueError, match="no code for map 'p3': the calibration maps do not vary"):
        extract(extraction_job(tmp_path))


def test_a_manifest_that_would_come_out_otherwise_is_not_written(teacher, tmp_path, monkeypatch):
    run = extraction_job(tmp_path)
    extract(run)
    whole = content(features(run))
    (features(run) / "manifest.json").write_text("{")
    monkeypatch.setattr(CellTeacher, "identity", {"teacher": "cells", "weights": "f" * 64})
    message = (
        r"manifest.json is damaged or missing, and its replacement would not be what the rest of the cache was made "
        r"with .*; restore it from a copy"
    )
    with pytest.raises(cache.DamagedError, match=message):
        extract(run)
    assert {name: part for name, part in content(features(run)).items() if name != "manifest.json"} == {
        name: part for name, part in whole.items() if name != "manifest.json"
    }


def test_a_manifest_of_another_version_stops_the_extraction(teacher, tmp_path):
    run = extraction_job(tmp_path)
    extract(run)
    path = features(run) / "manifest.json"
    data = json.loads(path.read_text())
    data["version"] = 7
    del data["checksum"]
    data["checksum"] = cache.manifest._sha256(cache.manifest.canonical(data))
    path.write_text(json.dumps(data))
    before = content(features(run))
    with pytest.raises(
        ValueError, match="format version 7, but this library reads versions 1 and 2; use the library that"
    ):
        extract(run)
    assert content(features(run)) == before


def test_a_deleted_shard_is_extracted_again(teacher, tmp_path):
    run = extraction_job(tmp_path)
    extract(run)
    whole = content(features(run))
    sorted(features(run).glob("shard-*"))[-1].unlink()
    extract(run)
    assert content(features(run)) == whole


def test_an_image_that_changed_between_two_runs_is_a_new_record(teacher, tmp_path):
    """Its key is that of its content, so that nobody reads the features of the old one for it; those stay."""
    run = extraction_job(tmp_path)
    extract(run)
    before = {record: cache.open(features(run)).read(*record, map="neck") for record in cache.open(features(run))}
    teacher.seen = 0
    changed = extraction_job(tmp_path, images=20, changed=19)
    assert extract(changed) == {"cells": 2}
    store = cache.open(features(run))
    assert all(store.read(*record, map="neck") == code for record, code in before.items())
    assert {key for key, _ in set(store) - set(before)} == {changed.splits.train[19].key}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB, or a skip where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small file system may be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_stops_in_a_sentence_and_the_same_command_continues(teacher, small_disk, tmp_path):
    whole = extracted(tmp_path / "straight", images=60)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"." * 40_000)
    run = extraction_job(small_disk, images=60)
    with pytest.raises(OSError, match=r"could not write .* is intact: make room and run the same command again"):
        extract(run)
    assert not list(features(run).glob(".writing-*"))
    ballast.unlink()
    extract(run)
    assert content(features(run)) == whole


def test_a_limit_on_the_size_of_files_is_told_like_a_full_disk(teacher, tmp_path):
    run = extraction_job(tmp_path, images=60)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, before[1]))
        with pytest.raises(OSError, match=r"could not write \d+ bytes .*make room and run the same") as caught:
            extract(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    extract(run)
    assert len(cache.open(features(run))) == 60 * 2 + 2


def killed_after(seconds, run):
    """Extracts in a child process that is killed after so many seconds; returns whether it came to its end before."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            torch.set_num_threads(1)
            extract(run)
            status = 0
        os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 32 records, so that a short extraction writes many."""
    monkeypatch.setattr("cache.store.SIZE", 32)
    monkeypatch.setattr(calibrate, "SIZE", 32)


def kill_at_random(folder, kills, *, images, seed):
    """Kills extractions, each at a random instant, and continues each to its end: all must be as one undisturbed.

    Returns:
        The seconds an undisturbed one takes, and for each kill how many shards and unfinished files it left.
    """
    draw = random.Random(seed)
    straight = extraction_job(folder / "straight", images=images)
    began = time.monotonic()
    assert killed_after(1e9, straight)
    seconds, whole = time.monotonic() - began, content(features(straight))
    left = []
    for number in count():
        run = extraction_job(folder / f"{number}", images=images)
        if not killed_after(draw.uniform(0, seconds), run):
            left.append([len(list(features(run).glob(pattern))) for pattern in ("shard-*", ".writing-*")])
            assert killed_after(1e9, run)
            assert content(features(run)) == whole, f"kill {number} left another cache"
        shutil.rmtree(folder / f"{number}")
        if len(left) == kills:
            return seconds, left
    return None


def test_extractions_killed_at_random_instants_end_bit_identical(teacher, small_shards, tmp_path):
    _, left = kill_at_random(tmp_path, 3, images=60, seed=0)
    assert len(left) == 3


@pytest.mark.study
@pytest.mark.timeout(7200)
def test_a_hundred_kills_of_an_extraction_of_ten_seconds(teacher, small_shards, tmp_path, capsys):
    images = int(os.environ.get("KILLED_IMAGES", "2000"))  # how many take ten seconds depends on the machine
    seconds, left = kill_at_random(tmp_path, 100, images=images, seed=1)
    shards, unfinished = zip(*left, strict=True)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(left)} extractions of {seconds:.1f} s killed at random instants, with {min(shards)} to "
            f"{max(shards)} shards and {sum(unfinished)} unfinished files left; every continuation is bit-identical\n"
        )
    assert max(shards) > min(shards)


@pytest.mark.study
@pytest.mark.timeout(7200)
def test_two_thousand_flips_and_truncations_are_found_named_and_repaired(teacher, tmp_path, capsys):
    run = extraction_job(tmp_path)
    extract(run)
    whole, draw = content(features(run)), random.Random(2)
    counts = {}
    for name, good in sorted(whole.items()):
        places = [draw.randrange(len(good)) for _ in range(400)] + list(range(0, len(good), max(1, len(good) // 200)))
        for number, place in enumerate(places):
            cut = number % 4 == 0
            damage(features(run) / name, draw, cut=cut, place=place)
            assert [problem.file for problem in cache.verify(features(run))] == [name], (name, place, cut)
            extract(run)
            assert content(features(run)) == whole, (name, place, cut)
            counts[name] = counts.get(name, 0) + 1
    with capsys.disabled():
        sys.stdout.write(f"\n{sum(counts.values())} cases, each found, named and repaired: {counts}\n")
    assert sum(counts.values()) >= 2000


def test_a_code_fitted_on_too_few_images_says_so_with_what_to_do(teacher, tmp_path, monkeypatch):
    hint = r"; the code was fitted on {}, too few to stand for others: give at least 32 training images \(those of data"
    with pytest.raises(ValueError, match=r"expected at least two calibration maps .*" + hint.format("1 image")):
        extract(extraction_job(tmp_path / "one", images=1))
    with monkeypatch.context() as patch:
        patch.setattr("cache.store.TOLERANCE", -1.0)
        with pytest.raises(ValueError, match=r"differ from those the codec was fitted .*" + hint.format("5 images")):
            extract(extraction_job(tmp_path / "five", images=5))
        with pytest.raises(ValueError, match=r"differ from those the codec was fitted .* of both kinds$"):
            extract(extraction_job(tmp_path / "many", images=40, calibration=40))
    run, forward, teacher.seen = extraction_job(tmp_path / "large", images=9), CellTeacher.forward, 0

    def growing(self, pixels, valid):  # the calibration images pass first
        scale = 1e30 if self.seen >= 8 + 1 + PROBED else 1
        return {name: maps * scale for name, maps in forward(self, pixels, valid).items()}

    monkeypatch.setattr(CellTeacher, "forward", growing)
    with pytest.raises(ValueError, match=r"no code for map .* absurdly large values.*" + hint.format("8 images")):
        extract(run)
