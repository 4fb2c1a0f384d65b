"""Caches that others made, or that were changed on purpose: refused with the documented errors, and named by verify."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import re
import resource
import sys
import time

import numpy as np
import pytest
import safetensors.torch
import torch
import zstandard
from altered import damaged, edited

import cache
from cache import manifest as manifests
from cache.entropy import coder
from cache.manifest import Manifest
from cache.schema import MAX_DEPTH, parse
from cache.shard import pack
from cache.spec import BANDS, FeatureSpec, MapSpec
from distill.cache_report.share import copy_cache

SPEC = FeatureSpec((MapSpec("neck", 3, (4, 5), 16), MapSpec("p3", 2, (6, 6), 8)))
KEYS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(6)]
NOISE = torch.Generator().manual_seed(0)
CODECS = {
    map_.name: cache.fit(
        torch.randn(16, map_.channels, *map_.grid, generator=NOISE), fidelity=0.8, shells=map_.name == "neck"
    )
    for map_ in SPEC
}
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "sam"
    settings = {"licence": "MIT", "fidelity": 0.8, "batch_size": 8, "views": ("identity",), "calibration": KEYS[:1]}
    store = cache.create(path, spec=SPEC, codecs=CODECS, identity={"teacher": {"name": "sam", "n": [1]}}, **settings)
    for run in cache.plan(store, KEYS, ("identity",)):
        maps = {map_.name: torch.randn(len(run), map_.channels, *map_.grid, generator=NOISE) for map_ in SPEC}
        codes = [(*r, {name: CODECS[name].encode(maps[name][i]) for name in maps}) for i, r in enumerate(run)]
        cache.write_shard(store, codes, fidelity={"neck": 0.81, "p3": 0.8})
    logging.getLogger("bandpass").setLevel(logging.CRITICAL)
    yield path
    logging.getLogger("bandpass").setLevel(logging.INFO)


def sealed(data):
    """The bytes of a manifest with these fields and the checksum that belongs to them."""
    data = {name: value for name, value in data.items() if name != "checksum"}
    with contextlib.suppress(ValueError):
        return manifests._file({**data, "checksum": manifests._sha256(manifests.canonical(data))})
    return json.dumps(data).encode()


def change_manifest(path, change):
    """Changes the fields of a manifest in place and seals it."""
    data = json.loads((path / "manifest.json").read_bytes())
    change(data)
    (path / "manifest.json").write_bytes(sealed(data))


def split(data):
    """Header, as JSON, and body of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header, body):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + body


def put_shard(path, data):
    """Replaces the shards by one whose name is that of its bytes, as far as a first key can be found."""
    for file in path.glob("shard-*"):
        file.unlink()
    prefix = KEYS_SORTED_PREFIX
    name = f"shard-{prefix}-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
    (path / name).write_bytes(data)
    return name


KEYS_SORTED_PREFIX = min(KEYS)[:12]


def put_codec(path, name, data):
    """Replaces a codec and the sha256 of it in the manifest; shards then belong to another manifest."""
    (path / f"codec-{name}.safetensors").write_bytes(data)
    change_manifest(path, lambda fields: fields["codecs"][name].update(sha256=hashlib.sha256(data).hexdigest()))


def read_all(path):
    """Everything that a training reads; ValueError is the documented error of each call."""
    store = cache.open(path)
    assert re.match(r"Cache\(", repr(store)) and store.nbytes > 0 and store.band_bytes().keys() == set(store.spec.names)
    assert store.views and store.calibration is not None and isinstance(store.manifest.digest, str)
    cache.plan(store, KEYS, store.views)
    for codec in store.codecs.values():
        assert codec.energies() and codec.band_deviation and isinstance(codec.expected_error, float)
    for record in store:
        for name in store.spec.names:
            store.decode(*record, map=name)


def outcome(path):
    """The error of reading a cache, or None; an undocumented one is raised."""
    try:
        read_all(path)
    except ValueError as error:
        return error
    return None


def refused(path):
    """Problems that verify finds, or the documented error by which it refuses the folder."""
    try:
        return cache.verify(path)
    except ValueError as error:
        return [error]


@pytest.mark.parametrize(
    "file", ["../../stolen.py", "/etc/passwd", "C:\\x", ".codec-neck.safetensors", "codec-p3.safetensors", "", 7]
)
def test_a_manifest_cannot_name_a_file_of_its_own_choice(folder, tmp_path, file):
    (tmp_path / "stolen.py").write_text("untouched")
    change_manifest(folder, lambda data: data["codecs"]["neck"].update(file=file))
    for attempt in (cache.open, lambda path: copy_cache(path, tmp_path / "a" / "copy")):
        with pytest.raises(ValueError, match="is damaged"):
            attempt(folder)
    (problem,) = cache.verify(folder)
    assert problem.file == "manifest.json"
    assert (tmp_path / "stolen.py").read_text() == "untouched" and not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "name", ["spec", "codecs", "views", "identity", "fidelity", "calibration", "batch_size", "licence", "versions"]
)
def test_a_manifest_that_lacks_a_field_is_damaged_and_named(folder, name):
    change_manifest(folder, lambda data: data.pop(name))
    with pytest.raises(
        cache.DamagedError, match=rf"manifest.json is damaged \(expected {name} to be .*, got None\); distill"
    ):
        cache.open(folder)
    assert [problem.file for problem in cache.verify(folder)] == ["manifest.json"]


def test_a_coder_that_this_version_lacks_is_told_as_another_version(folder):
    change_manifest(folder, lambda data: data["codecs"]["neck"].update(entropy="huffman"))
    for attempt in (cache.open, cache.verify, cache.repair):
        with pytest.raises(
            ValueError, match=r"with the entropy coder 'huffman', but this library knows laplace, zstd; use"
        ):
            attempt(folder)


def test_what_could_not_be_opened_is_not_written(tmp_path):
    settings = {"identity": {}, "licence": "MIT", "fidelity": 0.8, "batch_size": 8, "calibration": KEYS[:1]}
    with pytest.raises(ValueError, match=r"expected views to be some of identity, .* got \['turned'\]"):
        cache.create(tmp_path / "new", spec=SPEC, codecs=CODECS, views=("turned",), **settings)
    assert not list((tmp_path / "new").iterdir())


def test_deeply_nested_json_is_refused_everywhere(folder):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse(DEEP)
    good = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_text(DEEP)
    with pytest.raises(cache.DamagedError, match=r"is damaged .*; distill extract"):
        cache.open(folder)
    (folder / "manifest.json").write_bytes(good)
    change_manifest(folder, lambda data: data["identity"].update(deep=json.loads("[" * 80 + "]" * 80)))
    with pytest.raises(cache.DamagedError, match=f"nested deeper than {MAX_DEPTH} levels"):
        cache.open(folder)
    (folder / "manifest.json").write_bytes(good)
    name = put_shard(folder, joined(DEEP, b""))
    assert len(cache.open(folder)) == 0
    assert [problem.file for problem in cache.verify(folder)] == [name]
    _, body = split(CODECS["p3"].to_bytes())
    put_codec(folder, "p3", joined(DEEP, body))
    with pytest.raises(cache.DamagedError, match=r"codec-p3.safetensors is damaged"):
        _ = cache.open(folder).codecs


@pytest.mark.parametrize("part", ["table/neck/low", "maps/p3/high", "index"])
def test_a_tensor_that_is_too_short_is_found_at_the_door(folder, part):
    header, body = split(next(folder.glob("shard-*")).read_bytes())
    tensor = header[part]
    tensor["shape"][0] -= 1
    tensor["data_offsets"][1] -= {"U8": 1, "U32": 4}[tensor["dtype"]] * int(np.prod(tensor["shape"][1:]))
    name = put_shard(folder, joined(header, body))
    assert len(cache.open(folder)) == 0 or part.startswith("maps")
    (problem,) = cache.verify(folder)
    assert problem.file == name


def test_a_bit_in_the_name_of_a_tensor_is_found_at_the_door(folder):
    data = next(folder.glob("shard-*")).read_bytes()
    for old, new in (
        (b"maps/neck/low", b"maps/nekk/low"),
        (b"neck", b"nekk"),
        (b"/high", b"/hifh"),
        (b"index", b"indey"),
    ):
        name = put_shard(folder, data.replace(old, new))
        assert len(cache.open(folder)) == 0
        assert [problem.file for problem in cache.verify(folder)] == [name]


def test_a_record_whose_sum_is_wrong_is_found_by_verify_though_the_name_is_right(folder):
    data = next(folder.glob("shard-*")).read_bytes()
    header, body = split(data)
    start = header["maps/p3/high"]["data_offsets"][0]
    name = put_shard(folder, joined(header, body[:start] + bytes([body[start] ^ 1]) + body[start + 1 :]))
    (problem,) = cache.verify(folder)
    assert (problem.file, len(problem.records)) == (name, 6)
    assert "p3/high of record 0 is damaged" in problem.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t, n: t.update(basis=t["basis"][:, :1].contiguous()),
            r"with 1 <= K <= C, got \(2,\), \(2,\), \(2, 1\), ",
        ),
        (lambda t, n: t.update(variances=t["variances"][:, :5].contiguous()), "expected codecs for maps of"),
        (lambda t, n: t.update(mean=torch.zeros(2, 1)), "expected mean"),
        (lambda t, n: t.update(mean=t["mean"].double()), "do not agree|float32"),
        (lambda t, n: t.pop("scale"), "expected the float32 tensors"),
        (lambda t, n: t.update(scale=torch.zeros(2)), "positive scales"),
        (lambda t, n: t.update(variances=torch.full((2, 6, 6), torch.nan)), "expected finite"),
        (lambda t, n: n.update(step=1e9), "large enough to be coded"),
        (lambda t, n: n.update(step=10**400), r"expected step from 1e-18 to 1e\+18"),
        (lambda t, n: n.update(gain="1"), "expected gain from"),
        (lambda t, n: n.update(held_out=0), "expected held_out to be a whole number"),
        (lambda t, n: n.update(entropy=["zstd"]), "expected entropy to be the name"),
        (lambda t, n: n.pop("lost"), "expected the numbers"),
        (lambda t, n: n.update(spread=0.123), "its numbers are not those in the manifest"),
    ],
)
def test_a_codec_that_contradicts_itself_or_its_manifest_is_refused(folder, change, message):
    data = CODECS["p3"].to_bytes()
    tensors, numbers = safetensors.torch.load(data), json.loads(split(data)[0]["__metadata__"]["bandpass-codec"])
    change(tensors, numbers)
    put_codec(folder, "p3", safetensors.torch.save(tensors, {"bandpass-codec": json.dumps(numbers)}))
    with pytest.raises(cache.DamagedError, match=message):
        _ = cache.open(folder).codecs
    assert "codec-p3.safetensors" in [problem.file for problem in cache.verify(folder)]


def test_a_frame_that_claims_a_terabyte_allocates_nothing():
    frame = bytes.fromhex("28b52ffde0") + (1 << 40).to_bytes(8, "little") + b"\1\0\0"
    assert zstandard.frame_content_size(frame) == 1 << 40
    with pytest.raises(ValueError, match=r"claims more than the 2500 bytes of 500 values\); verify the cache"):
        coder("zstd", np.ones(500, np.float32)).decode(frame)
    without = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10_000_000))
    with pytest.raises(ValueError, match="is damaged"):
        coder("zstd", np.ones(500, np.float32)).decode(without)


@pytest.mark.parametrize("kind", ["fifo", "folder", "link out", "link to nothing", "link to itself", "device"])
def test_what_is_no_regular_file_of_the_folder_is_left_out_and_named(folder, tmp_path, kind):
    shard = next(folder.glob("shard-*"))
    odd = folder / f"shard-{'0' * 12}-{'1' * 32}.safetensors"
    (tmp_path / "elsewhere").write_bytes(shard.read_bytes())
    {
        "fifo": lambda: os.mkfifo(odd),
        "folder": odd.mkdir,
        "link out": lambda: odd.symlink_to(tmp_path / "elsewhere"),
        "link to nothing": lambda: odd.symlink_to("gone"),
        "link to itself": lambda: odd.symlink_to(odd.name),
        "device": lambda: odd.symlink_to("/dev/zero"),
    }[kind]()
    assert len(cache.open(folder)) == 6
    (problem,) = cache.repair(folder)
    assert (problem.file, problem.kind) == (odd.name, "foreign")
    assert len(copy_cache(folder, tmp_path / "copy")) == 6
    assert not (tmp_path / "copy" / odd.name).exists()


@pytest.mark.parametrize("name", ["manifest.json", "codec-p3.safetensors"])
def test_a_link_that_leads_out_of_the_folder_is_refused_and_one_within_is_read(folder, tmp_path, name):
    outside = tmp_path / "elsewhere"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert isinstance(outcome(folder), cache.DamagedError)
    assert [problem.file for problem in cache.verify(folder)] == [name]
    (folder / name).unlink()
    outside.rename(folder / "within")
    (folder / name).symlink_to("within")
    assert outcome(folder) is None and cache.verify(folder) == []


def test_a_lock_that_is_a_link_is_not_written_through(folder, tmp_path):
    (tmp_path / "mine").write_text("precious")
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError), cache.lock(folder):
        pass
    assert (tmp_path / "mine").read_text() == "precious"
    (folder / ".lock").unlink()
    os.mkfifo(folder / ".lock")
    with pytest.raises(OSError, match="is not a regular file; remove it"), cache.lock(folder):
        pass


# The fuzz: thousands of damaged or crafted files, and nothing but documented errors.


def manifest_case(path, whole, draw):
    fields = json.loads(whole["manifest.json"])
    crafted = sealed(edited(fields, draw)) if draw.random() < 0.8 else damaged(whole["manifest.json"], draw)
    (path / "manifest.json").write_bytes(crafted)
    return crafted == whole["manifest.json"]


def shard_case(path, whole, draw):
    """Damaged bytes, an edited header, an edited table; under a name made from the bytes, so that no sum tells."""
    (name,) = (name for name in whole if name.startswith("shard-"))
    action, (header, body) = draw.randrange(4), split(whole[name])
    if action == 0:
        data = damaged(whole[name], draw)
    elif action == 1:
        data = joined(header, damaged(body, draw))
    elif action == 2:
        data = joined(edited(header, draw), body)
    else:
        facts = edited(json.loads(header["__metadata__"]["bandpass-shard"]), draw)
        header["__metadata__"]["bandpass-shard"] = json.dumps(facts)
        data = joined(header, body)
    put_shard(path, data)
    return False


def crafted_code_case(path, whole, draw):
    """Damaged codes under the right sums, in a whole shard."""
    store = cache.open(path)
    codes = []
    for key, view in store:
        maps = {name: store.read(key, view, map=name) for name in store.spec.names}
        name, band = draw.choice(store.spec.names), draw.choice(BANDS)
        maps[name][band] = damaged(maps[name][band] or b"\0" * 4, draw)
        codes.append((key, view, maps))
    _, data = pack(codes, manifest=store.manifest.digest, fidelity={"neck": 0.8, "p3": 0.8})
    put_shard(path, data)
    return True  # every byte is as it was written: decoding alone can tell


def codec_case(path, whole, draw):
    """A damaged or edited codec under the right sha256, with shards of the manifest that names it."""
    name = draw.choice(SPEC.names)
    header, body = split(whole[f"codec-{name}.safetensors"])
    action = draw.randrange(4)
    if action == 0:
        data = damaged(whole[f"codec-{name}.safetensors"], draw)
    elif action == 1:
        data = joined(edited(header, draw), body)
    elif action == 2:
        floats = np.frombuffer(body, "<f4").copy()
        for place in (draw.randrange(len(floats)) for _ in range(draw.randrange(1, 4))):
            floats[place] = draw.choice((0, -1, np.nan, np.inf, 1e38, -1e38, 1e-40, 5))
        data = joined(header, floats.tobytes())
    else:
        numbers = edited(json.loads(header["__metadata__"]["bandpass-codec"]), draw)
        header["__metadata__"]["bandpass-codec"] = json.dumps(numbers)
        data = joined(header, body)
    put_codec(path, name, data)
    store = cache.open(path)
    (shard,) = (content for file, content in whole.items() if file.startswith("shard-"))
    header, body = split(shard)
    facts = json.loads(header["__metadata__"]["bandpass-shard"])
    header["__metadata__"]["bandpass-shard"] = json.dumps({**facts, "manifest": store.manifest.digest})
    put_shard(path, joined(header, body))
    return True  # a codec of other numbers may be a sound codec, under which the codes are not sound


KINDS = (manifest_case, shard_case, crafted_code_case, codec_case)


def fuzz(path, cases, seed):
    """Runs `cases` cases, a quarter of each kind; returns how many were refused, by kind."""
    whole = {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(".")}
    draw, counts = random.Random(seed), {kind.__name__: [0, 0] for kind in KINDS}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for number in range(cases):
        kind = KINDS[number % len(KINDS)]
        excused = kind(path, whole, draw)
        with np.errstate(all="ignore"):
            try:
                error, problems = outcome(path), refused(path)
                read = error is None and len(cache.open(path)) == len(KEYS)
            except Exception as wrong:
                raise AssertionError(f"case {number} of seed {seed}, {kind.__name__}") from wrong
        if not problems and not excused:
            assert read, f"verify is silent on case {number} of seed {seed}, {kind.__name__}: {error}"
        counts[kind.__name__][0] += 1
        counts[kind.__name__][1] += bool(error or problems)
        for file in path.glob("shard-*"):
            if file.name not in whole:
                file.unlink()
        for name, data in whole.items():
            if not (path / name).is_file() or (path / name).read_bytes() != data:
                (path / name).write_bytes(data)
    torch.set_num_threads(threads)
    return counts


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_damaged_or_crafted_file_raises_anything_but_documented_errors(folder):
    counts = fuzz(folder, 2000, seed=0)
    assert all(refused > 0.5 * cases for cases, refused in counts.values()), counts
    assert cache.verify(folder) == [] and outcome(folder) is None


@pytest.mark.study
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_many_damaged_and_crafted_files_raise_nothing_but_documented_errors(folder, capsys):
    """As many cases as FUZZ_CASES says."""
    began, cases = time.monotonic(), int(os.environ.get("FUZZ_CASES", "100000"))
    counts = fuzz(folder, cases, seed=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    with capsys.disabled():
        sys.stdout.write(f"\n{cases:,} cases in {time.monotonic() - began:.0f} s, at most {peak} MB: {counts}\n")


def test_the_fuzz_seals_a_manifest_as_the_cache_does(folder):
    data = (folder / "manifest.json").read_bytes()
    assert sealed(json.loads(data)) == data
    assert Manifest.read(folder).to_bytes() == data
