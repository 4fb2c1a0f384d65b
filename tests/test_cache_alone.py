"""The cache as a library of its own: nothing of the other rooms is imported, and its format is what the page says."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cache
from cache.manifest import Manifest
from cache.spec import FeatureSpec, MapSpec

FORMAT = Path(cache.__file__).with_name("FORMAT.md")

STORY = """
import sys
for room in ("distill", "teachers", "students", "recipes"):
    sys.modules[room] = None  # importing it raises
import torch, cache
maps = torch.randn(12, 4, 6, 6, generator=torch.Generator().manual_seed(0)).cumsum(-1)
codec = cache.fit(maps, fidelity=0.9)
spec = cache.FeatureSpec((cache.MapSpec("neck", 4, (6, 6), 16),))
store = cache.create(sys.argv[1], spec=spec, codecs={"neck": codec}, identity={"who": "me"}, licence="MIT",
                     fidelity=0.9, batch_size=1, views=("identity",), calibration=[])
keys = [f"{number:064x}" for number in range(12)]
for run in cache.plan(store, keys, ("identity",)):
    codes = [(key, view, {"neck": codec.encode(maps[int(key, 16)])}) for key, view in run]
    cache.write_shard(store, codes, fidelity={"neck": codec.fidelity(maps, [c["neck"] for _, _, c in codes])})
again = cache.open(sys.argv[1])
assert len(again) == 12 and cache.verify(sys.argv[1]) == [] and cache.repair(sys.argv[1]) == []
seen = again.decode(keys[3], "identity", map="neck", box=(0.1, 0.2, 0.9, 1.0), grid=(3, 3), band="low")
assert seen.shape == (codec.components, 3, 3)
loaded = {name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}
assert not loaded & {"distill", "teachers", "students", "recipes", "timm", "transformers", "accelerate", "omegaconf"}
"""


def test_a_cache_is_written_and_read_where_there_is_nothing_else_of_this_project(tmp_path):
    subprocess.run([sys.executable, "-c", STORY, str(tmp_path / "features")], check=True)


def test_every_public_name_is_there():
    for name in cache.__all__:
        assert getattr(cache, name) is not None
    with pytest.raises(AttributeError, match="module 'cache' has no attribute 'opne'; choose from"):
        _ = cache.opne


GOLDEN_MANIFEST = "09c33f8a512e6bb182e050849f84f6346f4d550ad517c077fe93d7783d907041"
GOLDEN_DIGEST = "414b957ebf82e089e47a991040e2bf59486c0b08f940fccf0979902d1501bcb5"


def test_a_manifest_has_golden_bytes_and_a_golden_digest():
    manifest = Manifest(
        spec=FeatureSpec((MapSpec("neck", 3, (4, 5), 16),)),
        identity={"teacher": "sam", "weights": "1f3a", "é": [1, 0.5, None]},
        views=("identity", "hflip"),
        fidelity=0.95,
        codecs={"neck": {"file": "codec-neck.safetensors", "sha256": "0" * 64, "entropy": "laplace", "spread": 0.004,
                         "held_out": 64}},
        calibration=("ab" * 32,),
        batch_size=8,
        licence="Apache-2.0",
        versions={"torch": "2.0"},
    )  # fmt: skip
    assert (hashlib.sha256(manifest.to_bytes()).hexdigest(), manifest.digest) == (GOLDEN_MANIFEST, GOLDEN_DIGEST)


def test_the_page_names_every_file_coder_and_view_and_is_one_page():
    page = FORMAT.read_text(encoding="utf-8")
    for coder in ("zstd", "laplace"):
        assert f'*Coder "{coder}"*' in page
    for number, view in enumerate(cache.VIEWS):
        assert f"{number} {view}" in page
    for file in ("manifest.json", r"codec-<map>.safetensors", "shard-<6 bytes of key>", ".lock, .writing-*"):
        assert file in page
    assert len(page.split()) < 1500 and len(page.splitlines()) < 90


def test_the_page_s_constants_are_those_of_the_code():
    from cache import probability_tables as tables
    from cache.quantise import WATER

    page = FORMAT.read_text(encoding="utf-8")
    said = {
        f"variances` > {WATER} step²": 1,
        f"within [{tables.LOWEST}, {tables.HIGHEST}]".replace("-", "−"): 1,
        f"no more than {tables.MAX_GROUPS} combinations": 1,
        f"⌊p ({tables.UNIT} − N)⌋ + 1": 1,
        f"2 min(m, {tables.ESCAPE_FROM})": 1,
    }
    assert {text: page.count(text) for text in said} == said
    assert re.search(rf"e\^\(−{tables.DECAY}a\)", page) and f"≤ {tables.TAIL_SHARE}" in page


GOLDEN_CODES = {"low": "fe48fe41f772fc54a1170000", "high": "b07f814a06000000"}


def test_the_code_of_a_map_has_golden_bytes():
    """Under statistics that are given: of fitted ones the last bits may differ from machine to machine."""
    codec = cache.Codec(
        mean=torch.tensor([1.0, -2.0]), scale=torch.tensor([0.5, 4.0]), basis=torch.eye(2),
        variances=torch.arange(1, 13).reshape(2, 2, 3).flip(0, 1, 2).float(), gain=1.5, step=0.25, dead_zone=0.6,
        lost=0.0, asked=0.95, reached=0.951, spread=0.004, held_out=4, images=16, entropy="laplace",
    )  # fmt: skip
    data = codec.to_bytes()
    assert cache.Codec.from_bytes(data).to_bytes() == data
    codes = codec.encode(torch.arange(12).reshape(2, 2, 3).float())
    assert {name: code.hex() for name, code in codes.items()} == GOLDEN_CODES
