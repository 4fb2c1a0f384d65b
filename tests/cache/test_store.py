"""The store: nothing lost but what was being written, nothing silently wrong, and one file for one content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import pickle
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
import torch

import cache
from cache.files import _host, sweep
from cache.manifest import Manifest
from cache.shard import pack
from cache.spec import FeatureSpec, MapSpec
from cache.verification import Problem

SPEC = FeatureSpec((MapSpec("neck", 3, (4, 5), 16), MapSpec("p3", 2, (6, 6), 8)))
IDENTITY = {"teacher": "sam", "weights": "1f3a", "preprocessing": {"image_size": 352, "mean": [0.5, 0.5]}}


def key(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def maps_of(record):
    generator = torch.Generator().manual_seed(int(record[0][:8], 16) + len(record[1]))
    return {map_.name: torch.randn(map_.channels, *map_.grid, generator=generator) for map_ in SPEC}


NOISE = torch.Generator().manual_seed(0)
CODECS = {
    map_.name: cache.fit(torch.randn(16, map_.channels, *map_.grid, generator=NOISE), fidelity=0.8) for map_ in SPEC
}


def make(path, **changes):
    settings = {
        "spec": SPEC,
        "codecs": CODECS,
        "identity": IDENTITY,
        "licence": "Apache-2.0",
        "fidelity": 0.8,
        "batch_size": 8,
        "views": ("identity", "hflip"),
        "calibration": [key(0)],
    }
    return cache.create(path, **{**settings, **changes})


def codes_of(run):
    return [(*r, {name: CODECS[name].encode(map_) for name, map_ in maps_of(r).items()}) for r in run]


def extract(path, keys, views=("identity",), stop=None):
    for run in cache.plan(path, keys, views)[:stop]:
        cache.write_shard(path, codes_of(run), fidelity={"neck": 0.81, "p3": 0.8})


@pytest.mark.parametrize("fidelity", [{"neck": 81.0, "p3": 0.8}, {"neck": 0.81, "p3": 0.8, "extra": 0.9}])
def test_a_fidelity_that_no_reader_would_believe_is_refused_when_it_is_written(folder, fidelity):
    store = cache.open(folder)
    (run, *_) = cache.plan(store, [key(999)])
    with pytest.raises(ValueError, match=r"expected a mean cosine of each of the maps \['neck', 'p3'\]"):
        cache.write_shard(store, codes_of(run), fidelity=fidelity)
    assert cache.plan(store, [key(999)]) == [run]
    cache.write_shard(store, codes_of(run), fidelity={"neck": np.float32(0.81), "p3": torch.tensor(0.8)})
    assert not cache.plan(store.path, [key(999)])


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(".")}


@pytest.fixture
def folder(tmp_path):
    make(tmp_path / "sam")
    return tmp_path / "sam"


@pytest.fixture
def filled(folder):
    extract(folder, [key(i) for i in range(5)], ("identity", "hflip"))
    return folder


def test_what_was_written_is_read(filled):
    store = cache.open(filled)
    assert len(store) == 10
    assert set(store) == {(key(i), view) for i in range(5) for view in ("identity", "hflip")}
    for record in store:
        for name, map_ in maps_of(record).items():
            code = CODECS[name].encode(map_)
            assert store.read(*record, map=name) == code
            assert store.read(*record, map=name, bands=("low",)) == {"low": code["low"]}
            decoded = store.decode(*record, map=name, grid=(3, 3), band="low")
            assert torch.equal(decoded, CODECS[name].decode(code, grid=(3, 3), band="low"))
    assert (store.spec, store.identity, store.licence, store.fidelity) == (SPEC, IDENTITY, "Apache-2.0", 0.8)
    assert (store.views, store.batch_size, store.calibration) == (("identity", "hflip"), 8, (key(0),))
    assert store.nbytes == sum(map(len, content(filled).values()))
    assert store.band_bytes()["p3"]["high"] > 0


def test_a_record_that_is_not_there_is_not_found(filled):
    store = cache.open(filled)
    assert (key(0), "hflip") in store
    assert (key(0), "vflip") not in store
    assert (key(9), "identity") not in store
    with pytest.raises(KeyError, match=r"holds no image .* under view 'identity'; extract it with distill extract"):
        store.read(key(9), "identity", map="neck")
    with pytest.raises(KeyError, match="holds no 'nick/low'; maps are neck, p3, and bands low, high"):
        store.read(key(0), "identity", map="nick")
    with pytest.raises(ValueError, match="unknown band 'mid'; choose from all, low, high"):
        store.decode(key(0), "identity", map="neck", band="mid")


def test_a_reader_travels_to_a_worker_process(filled):
    again = pickle.loads(pickle.dumps(cache.open(filled)))
    assert again.read(key(3), "hflip", map="p3") == cache.open(filled).read(key(3), "hflip", map="p3")


def test_the_plan_is_sorted_runs_of_256_new_records(folder):
    keys = [key(i) for i in range(300)]
    runs = cache.plan(folder, keys + keys[:7], ("identity", "hflip"))
    assert [len(run) for run in runs] == [256, 256, 88]
    assert [record for run in runs for record in run] == sorted(
        (k, view) for k in keys for view in ("hflip", "identity")
    )
    assert cache.plan(folder, reversed(keys), ("hflip", "identity")) == runs
    assert cache.plan(folder, [record for run in runs for record in run]) == runs


def test_after_a_kill_the_rest_is_cut_as_before_and_ends_bit_identical(folder, tmp_path):
    keys = [key(i) for i in range(600)]
    runs = cache.plan(folder, keys, ("identity",))
    code = codes_of([(keys[0], "identity")])[0][2]
    for number in (1, 2, 0):  # as ranks may finish
        assert runs[number] in cache.plan(folder, keys, ("identity",))
        cache.write_shard(folder, [(*r, code) for r in runs[number]], fidelity={"neck": 0.8, "p3": 0.8})
    make(tmp_path / "straight")
    for run in runs:
        cache.write_shard(tmp_path / "straight", [(*r, code) for r in reversed(run)], fidelity={"neck": 0.8, "p3": 0.8})
    assert content(folder) == content(tmp_path / "straight")
    assert cache.plan(folder, keys, ("identity",)) == []


def test_a_shard_is_an_ordinary_safetensors_file_of_golden_bytes():
    codes = [
        ("ab" * 32, "hflip", {"neck": {"low": b"low", "high": b""}}),
        ("01" * 32, "rot180", {"neck": {"low": b"", "high": b"high"}}),
    ]
    name, data = pack(codes, manifest="f" * 64, fidelity={"neck": 0.9512345678})
    assert hashlib.sha256(data).hexdigest() == "b40b69e917e1aa449a8422394ccbe7c92198d490a8c261844b889afc4ba4b848"
    assert name == f"shard-010101010101-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
    tensors = safetensors.numpy.load(data)
    assert tensors["index"].tobytes() == b"\x01" * 32 + b"\x03" + b"\xab" * 32 + b"\x01"
    assert tensors["maps/neck/low"].tobytes() == b"low"
    assert tensors["table/neck/low"][:, 0].tolist() == [0, 3]
    assert pack(codes[::-1], manifest="f" * 64, fidelity={"neck": 0.9512345678}) == (name, data)


def test_a_writer_killed_while_writing_leaves_nothing_wrong_and_is_swept_by_the_next(folder):
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nimport cache.files as files\n"
        "files.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_whole(Path(sys.argv[1]), 'shard-000000000000-" + "0" * 32 + ".safetensors', b'half')"
    )
    before = content(folder)
    assert subprocess.run([sys.executable, "-c", script, str(folder)], check=False).returncode == -9
    assert len(list(folder.glob(".writing-*"))) == 1
    assert content(folder) == before
    assert len(cache.open(folder)) == 0
    extract(folder, [key(1)])
    assert not list(folder.glob(".writing-*"))
    assert cache.verify(folder) == []


def test_the_unfinished_file_of_a_living_writer_is_left_alone(folder, monkeypatch):
    seen = []

    def look(descriptor):
        sweep(folder)
        seen.append(len(list(folder.glob(".writing-*"))))

    monkeypatch.setattr("cache.files.os.fsync", look)
    extract(folder, [key(1)])
    assert seen == [1, 0]  # the file before its renaming, then the folder


def test_a_shard_of_an_open_cache_is_written_without_listing_the_folder_and_a_lock_sweeps_it(folder, monkeypatch):
    store = cache.open(folder)
    (folder / ".writing-left").write_bytes(b"half")
    (run,) = cache.plan(store, [key(1)], ("identity",))
    with monkeypatch.context() as patch:
        patch.setattr("cache.files.sweep", lambda _: pytest.fail("listed"))
        cache.write_shard(store, codes_of(run), fidelity={"neck": 0.81, "p3": 0.8})
    assert len(list(folder.glob(".writing-*"))) == 1
    with cache.lock(folder):
        assert not list(folder.glob(".writing-*"))
    assert len(cache.open(folder)) == 1


def test_many_records_are_looked_up_as_one_by_one(folder):
    extract(folder, [key(number) for number in range(40)], ("identity", "hflip"))
    store = cache.open(folder)
    wanted = [(key(number), view) for number in (*range(30, 50), 3) for view in ("hflip", "vflip", "identity")]
    assert store.missing(wanted) == [record for record in wanted if record not in store]
    assert store.missing([]) == [] and store.missing(wanted[:1]) == []
    near = key(3)[:63] + ("0" if key(3)[63] != "0" else "1")  # of which all but the last half byte is there
    assert store.missing([(near, "identity")]) == [(near, "identity")]
    for record in ((key(1)[:-1], "identity"), (key(1).upper(), "identity"), (key(1), "sideways")):
        with pytest.raises(ValueError, match=r"expected a key of 64 lower-case|unknown view 'sideways'"):
            store.missing([(key(2), "identity"), record])


def test_records_that_share_a_prefix_are_told_apart(folder, monkeypatch):
    monkeypatch.setattr("cache.reader._LOOKED_UP_AT_ONCE", 2)
    alike = ["ab" * 8 + f"{number:048x}" for number in range(6)]
    store = cache.open(folder)
    codes = codes_of([(name, "identity") for name in alike[::2]])
    cache.write_shard(store, codes, fidelity={"neck": 0.81, "p3": 0.8})
    records = [(name, "identity") for name in alike]
    assert cache.open(folder).missing(records) == records[1::2]


def test_a_full_disk_stops_with_a_sentence_and_leaves_what_was_there(filled, monkeypatch):
    before = content(filled)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cache.files.os.fsync", full)
    with pytest.raises(
        OSError, match=r"could not write \d+ bytes .*what was written before is intact: make room and run"
    ):
        extract(filled, [key(77)])
    assert content(filled) == before
    assert not list(filled.glob(".writing-*"))


def test_a_flipped_bit_or_truncation_anywhere_in_a_shard_is_found_and_nothing_wrong_is_read(filled, caplog):
    caplog.set_level(logging.CRITICAL)
    shard = next(filled.glob("shard-*"))
    good, draw = shard.read_bytes(), random.Random(0)
    codes = {(*r, name): cache.open(filled).read(*r, map=name) for r in cache.open(filled) for name in SPEC.names}
    for case in range(240):
        place = draw.randrange(len(good))
        flipped = good[:place] + bytes([good[place] ^ 1 << draw.randrange(8)]) + good[place + 1 :]
        shard.write_bytes(good[:place] if case % 4 == 0 else flipped)
        assert [problem.file for problem in cache.verify(filled)] == [shard.name]
        store = cache.open(filled)
        for (k, view, name), code in draw.sample(sorted(codes.items()), 6):
            with contextlib.suppress(KeyError, ValueError):
                assert store.read(k, view, map=name) == code


def test_a_damaged_shard_names_three_images_and_counts_the_others():
    problem = Problem(
        "shard-0", "it is damaged", tuple((f"key{i}", view) for i in range(9) for view in ("identity", "hflip"))
    )
    assert str(problem) == "shard-0: it is damaged; to extract again: key0, key1, key2 and 6 more"


def test_a_damaged_shard_names_its_images_and_is_written_again_by_the_next_extraction(filled):
    whole = content(filled)
    shard = next(filled.glob("shard-*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (problem,) = cache.verify(filled)
    assert len(problem.records) == 10 and set(problem.records) == set(cache.open(filled))
    assert (
        f"its bytes are not those its name was made from; to extract again: {min(k for k, _ in problem.records)}"
        in str(problem)
    )
    last = max(cache.open(filled))
    with pytest.raises(
        ValueError,
        match=r"is damaged in .*; distill extract with the recipe that made it writes the shard again, cache.repair\(",
    ):
        for record in cache.open(filled):
            cache.open(filled).read(*record, map="p3")
    assert last in cache.open(filled)
    assert cache.repair(filled) == [problem]
    extract(filled, [key(i) for i in range(5)], ("identity", "hflip"))
    assert content(filled) == whole


def test_a_truncated_shard_is_left_out_with_a_warning_and_replaced(filled, caplog):
    whole = content(filled)
    shard = next(filled.glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:900])
    assert len(cache.open(filled)) == 0
    assert "is left out: it is cut off, or its header is damaged" in caplog.text
    assert "unknown, extract again with distill extract" in str(cache.verify(filled)[0])
    extract(filled, [key(i) for i in range(5)], ("identity", "hflip"))
    assert content(filled) == whole


def test_a_deleted_shard_is_missed_by_those_who_know_what_to_expect(filled):
    wanted = list(cache.open(filled))
    next(filled.glob("shard-*")).unlink()
    assert cache.verify(filled) == []
    (problem,) = cache.verify(filled, expected=wanted)
    assert (problem.reason, set(problem.records)) == ("10 records are missing", set(wanted))


def test_a_shard_of_another_cache_is_left_out(filled, tmp_path, caplog):
    make(tmp_path / "other", identity={**IDENTITY, "weights": "ffff"})
    shard = next(filled.glob("shard-*"))
    (tmp_path / "other" / shard.name).write_bytes(shard.read_bytes())
    assert len(cache.open(tmp_path / "other")) == 0
    assert "it belongs to a cache of another identity" in caplog.text
    (tmp_path / "other" / "shard-notes.txt").write_text("not ours")
    problems = cache.repair(tmp_path / "other")
    assert [str(problem).partition(": ")[2] for problem in problems] == [
        "it belongs to a cache of another identity; it is left out, move it away",
        "its name is not that of a shard; it is left out, move it away",
    ]
    assert len(list((tmp_path / "other").glob("shard-*"))) == 2


def test_a_shard_that_cannot_be_read_is_told_and_stays(filled, monkeypatch):
    shard, wanted = next(filled.glob("shard-*")), list(cache.open(filled))

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("cache.shard.Shard.read", refused)
    told = "it cannot be read: Permission denied; if that persists, remove it and extract again"
    unread, missing = sorted(cache.verify(filled, expected=wanted), key=lambda problem: problem.kind, reverse=True)
    assert (str(unread), len(missing.records)) == (f"{shard.name}: {told}", 10)
    for attempt in (cache.open, cache.repair):
        with pytest.raises(OSError, match=told):
            attempt(filled)
    assert shard.is_file()


def test_a_changed_byte_anywhere_in_the_manifest_is_found(folder):
    good = (folder / "manifest.json").read_bytes()
    for place in range(0, len(good), 5):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        (folder / "manifest.json").write_bytes(bad)
        with pytest.raises(ValueError, match="damaged"):
            Manifest.read(folder)
    (folder / "manifest.json").write_bytes(good.replace(b"\n", b"\r\n"))
    (problem,) = cache.repair(folder)
    assert str(problem).endswith(
        "manifest.json is damaged; distill extract with the recipe that made it writes it again"
    )
    assert (folder / "manifest.json").is_file()


def test_damaged_statistics_are_found(folder):
    path = folder / "codec-p3.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = cache.verify(folder)
    assert str(problem).startswith("codec-p3.safetensors: ") and not problem.removable
    with pytest.raises(ValueError, match=r"codec-p3.safetensors is damaged or missing; distill extract with the"):
        _ = cache.open(folder).codecs


def test_a_folder_that_is_no_cache_or_of_another_version_is_refused(folder, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"is not a feature cache: it has no manifest.json; extract with distill extract"
    ):
        cache.open(tmp_path)
    data = json.loads((folder / "manifest.json").read_text())
    del data["checksum"]
    data["version"] = 7
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    data["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(
        ValueError, match="is a cache of format version 7, but this library reads versions 1 and 2; use the library"
    ):
        cache.open(folder)


def test_damaged_statistics_are_written_again_if_they_come_out_the_same(folder):
    path = folder / "codec-p3.safetensors"
    whole = path.read_bytes()
    path.unlink()
    other = {**CODECS, "p3": cache.fit(torch.randn(16, 2, 6, 6, generator=NOISE), fidelity=0.8)}
    with pytest.raises(
        cache.DamagedError, match=r"codec-p3.safetensors is damaged or missing, and its replacement would"
    ):
        make(folder, codecs=other)
    make(folder)
    assert path.read_bytes() == whole


def test_a_damaged_manifest_is_written_again_from_the_statistics_that_are_there(filled):
    whole = content(filled)
    (filled / "manifest.json").write_bytes(whole["manifest.json"][:99])
    with pytest.raises(cache.DamagedError, match="its replacement would not be what the rest"):
        make(filled, codecs=None, fidelity=0.7)
    make(filled, codecs=None)
    assert content(filled) == whole
    for file in (filled / "manifest.json", *filled.glob("shard-*")):
        file.unlink()
    with pytest.raises(cache.DamagedError, match=r"manifest.json is damaged or missing"):  # no shard vouches for them
        make(filled, codecs=None)


def test_another_identity_is_refused_and_the_difference_named(filled):
    other = {**IDENTITY, "preprocessing": {"image_size": 512, "mean": (0.5, 0.5)}}
    message = (
        "was written with preprocessing.image_size=352, but preprocessing.image_size=512 is requested; remove this"
    )
    for refuse in (lambda: make(filled, identity=other), lambda: cache.open(filled, identity=other)):
        with pytest.raises(ValueError, match=message):
            refuse()
    with pytest.raises(ValueError, match='with teacher="sam", but teacher=nothing is requested'):
        cache.open(filled).check_identity({name: IDENTITY[name] for name in ("weights", "preprocessing")})
    with pytest.raises(ValueError, match=r"with fidelity=0.8, but fidelity=0.9 is requested; extract into another"):
        make(filled, fidelity=0.9)
    with pytest.raises(ValueError, match=r"with spec.p3.stride=8, but spec.p3.stride=4 is requested"):
        make(filled, spec=FeatureSpec((SPEC["neck"], MapSpec("p3", 2, (6, 6), 4))))


def test_creating_the_same_cache_again_opens_it(filled):
    before = content(filled)
    again = make(filled, batch_size=2, codecs={})
    assert (len(again), again.batch_size) == (10, 8)
    assert content(filled) == before


def test_other_library_versions_are_warned_about(folder, caplog, monkeypatch):
    monkeypatch.setattr("cache.manifest.versions", lambda: {**Manifest.read(folder).versions, "torch": "9.9"})
    cache.open(folder)
    assert "(now 9.9); new records may differ in the last bit" in caplog.text


def test_a_shard_that_is_less_faithful_than_asked_stops_the_append(folder):
    run = cache.plan(folder, [key(i) for i in range(20)], ("identity",))[0]
    chance = 3 * max(CODECS["p3"].spread, 0.005) * (1 / 20 + 1 / CODECS["p3"].held_out) ** 0.5
    cache.write_shard(folder, codes_of(run), fidelity={"neck": 0.8, "p3": 0.8 - 0.009 - chance})
    message = (
        r"20 records of map 'p3' reached fidelity .*, but 0.8 was requested of .*: these images differ from those the"
    )
    with pytest.raises(ValueError, match=message):
        cache.write_shard(folder, codes_of(run), fidelity={"neck": 0.8, "p3": 0.8 - 0.011 - chance})
    with pytest.raises(ValueError, match="map 'neck' reached fidelity nan"):
        cache.write_shard(folder, codes_of(run), fidelity={"neck": float("nan"), "p3": 0.8})


def test_a_map_of_which_more_was_asked_is_held_to_it(tmp_path):
    finer = {**CODECS, "p3": cache.fit(torch.randn(16, 2, 6, 6, generator=NOISE), fidelity=0.97)}
    store = make(tmp_path / "features", codecs=finer)
    codes = [
        (key(0), "identity", {name: finer[name].encode(map_) for name, map_ in maps_of((key(0), "identity")).items()})
    ]
    for path in (store, store.path):
        with pytest.raises(ValueError, match=r"map 'p3' reached fidelity 0\.8000, but 0\.97 was requested"):
            cache.write_shard(path, codes, fidelity={"neck": 0.8, "p3": 0.8})


def test_a_shard_of_nothing_of_too_much_or_of_a_record_twice_is_refused(folder):
    codes = codes_of([(key(0), "identity")])
    for wrong, count in (([], 0), (codes * 2, 2), (codes * 257, 257)):
        with pytest.raises(
            ValueError, match=f"a shard holds 1 to 256 records, each once, got {count}; cache.plan cuts"
        ):
            cache.write_shard(folder, wrong, fidelity={"neck": 0.8, "p3": 0.8})


def test_a_plan_without_views_is_of_all_views(folder):
    assert cache.plan(folder, [key(0)]) == cache.plan(folder, [key(0)], ("identity", "hflip")) != []


def test_what_does_not_belong_into_the_cache_is_refused(folder):
    code = codes_of([(key(0), "identity")])[0][2]
    with pytest.raises(ValueError, match=r"expected the maps \['neck', 'p3'\], each with \('low', 'high'\), for image"):
        cache.write_shard(folder, [(key(0), "identity", {"neck": code["neck"]})], fidelity={"neck": 1, "p3": 1})
    with pytest.raises(ValueError, match="was made for the views identity, hflip, not for 'vflip'; extract again"):
        cache.plan(folder, [key(0)], ("vflip",))
    with pytest.raises(ValueError, match=r"expected a key of 64 lower-case hexadecimal digits .*got 'image_1'"):
        cache.plan(folder, ["image_1"], ("identity",))
    with pytest.raises(ValueError, match=r"expected codecs for maps of \(channels, rows, columns\)"):
        make(folder / "new", codecs={"neck": CODECS["p3"], "p3": CODECS["p3"]})


def test_a_second_extraction_leaves_with_the_name_of_the_first_or_waits(folder, caplog):
    caplog.set_level(logging.INFO)
    script = "import sys, cache\nwith cache.lock(sys.argv[1]):\n print('held', flush=True)\n sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"is in use by process {holder.pid} on .*; wait for it to end"):
            cache.lock(folder, wait=False).__enter__()
        holder.stdin.close()
        with cache.lock(folder):
            assert not caplog.text or f"waiting: {folder} is in use by process {holder.pid}" in caplog.text
    with cache.lock(folder, wait=False):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_and_written_to(filled, monkeypatch, caplog, number):
    def without(*_):
        raise OSError(number, "no locks")

    monkeypatch.setattr("fcntl.flock", without)
    with cache.lock(filled):
        extract(filled, [key(7)], ("identity",))
    assert "is on a file system without locks: make sure no other extraction fills it now" in caplog.text
    assert (key(7), "identity") in cache.open(filled)


def test_an_unfinished_file_of_another_host_is_swept_after_a_day(folder):
    fresh, old, own = (folder / f".writing-{host}-{'0' * 15}{n}" for n, host in enumerate(["f" * 8, "f" * 8, _host()]))
    for path in (fresh, old, own):
        path.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(old, (two_days_ago, two_days_ago))
    sweep(folder)
    assert [path.exists() for path in (fresh, old, own)] == [True, False, False]
