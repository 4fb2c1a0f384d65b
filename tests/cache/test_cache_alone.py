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
from cache import probability_tables as tables
from cache import spec
from cache.manifest import LARGEST, Manifest
from cache.reader import LARGEST_CODEC
from cache.schema import MAX_DEPTH
from cache.series import dct
from cache.spec import FeatureSpec, MapSpec

FORMAT = Path(cache.__file__).with_name("FORMAT.md")
README = FORMAT.with_name("README.md")

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

    from cache.quantise import WATER

    page = FORMAT.read_text(encoding="utf-8")
    said = {
        f"variances` > {WATER} step²": 1,
        f"within [{tables.LOWEST}, {tables.HIGHEST}]".replace("-", "−"): 1,
        f"no more than {tables.MAX_GROUPS} combinations": 1,
        f"⌊p ({tables.UNIT} − N)⌋ + 1": 1,
        f"2 min(m, {tables.ESCAPE_FROM})": 1,
        f"at most {LARGEST >> 20} MiB (manifest) and {LARGEST_CODEC >> 30} GiB (codec)": 1,
        f"nested deeper than {MAX_DEPTH} levels": 1,
        f"map names match\n`{spec._NAME.pattern}`": 1,
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


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_readme_s_python_fills_a_cache_and_trains_a_student_from_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reading, writing = python_blocks()
    keys = [f"{number:064x}" for number in range(24)]
    maps = torch.randn(24, 64, 16, 16, generator=torch.Generator().manual_seed(0)).cumsum(-1).cumsum(-2)
    exec(writing, {"maps": maps, "keys": keys})
    before = {path.name: path.read_bytes() for path in (tmp_path / "artifacts/features/sam").glob("*.*")}
    exec(writing, {"maps": maps, "keys": keys})
    assert {path.name: path.read_bytes() for path in (tmp_path / "artifacts/features/sam").glob("*.*")} == before
    student = torch.nn.Conv2d(3, 64, 16, stride=16)
    names = {"student": student, "loader": [(torch.rand(4, 3, 256, 256), keys[:4])] * 2}
    weight = student.weight.detach().clone()
    exec(reading, names)
    assert 0 < names["loss"].item() < 2 and not torch.equal(student.weight, weight)
    assert len(cache.open("artifacts/features/sam")) == 24


def test_the_readme_s_worked_example_is_what_the_code_does():
    page = README.read_text(encoding="utf-8").partition("step by step")[2].partition("\n## ")[0]
    rows = {line.split("  ")[0]: [float(number) for number in re.findall(r"-?\d+\.\d+", line)]
            for line in page.partition("```\n")[2].partition("```")[0].splitlines()}  # fmt: skip
    feature, variances = (torch.tensor(rows[name]).reshape(2, 2, 3) for name in ("map F", "variances"))
    axis = 0.5**0.5
    codec = cache.Codec(
        mean=torch.tensor([3.0, -1.0]), scale=torch.tensor([2.0, 0.5]),
        basis=torch.tensor([[axis, axis], [axis, -axis]]), variances=variances, gain=1.0, step=0.8, dead_zone=0.6,
        lost=0.0, asked=0.8, reached=0.8, spread=0.0, held_out=4, images=16, entropy="laplace",
    )  # fmt: skip
    components = codec.project(feature)
    for name, values in (("components P", components), ("cosines Z", dct(components))):
        assert (torch.tensor(rows[name]).reshape(2, 2, 3) - values).abs().max() < 0.006, name
    code = codec.encode(feature)
    integers = {band: codec.coders[band].decode(code[band]).tolist() for band in code}
    assert integers == {"low": [1, 2, 4, -1, 0, 0, 0], "high": [-1]}
    assert "low band (both frequencies below 2) `1 2 4 -1 0 0 0`, high band `-1`" in page
    assert f"low `{code['low'].hex()}`, high `{code['high'].hex()}`, 12 bytes" in page
    runs = [(start, stop, tables.table(level)) for level, start, stop in tables.runs(codec.bands["low"].deviations)]
    padded = [*integers["low"], 0, 0]
    assert [(one.limit, one.group_size, number_of(padded[start:stop], one)) for start, stop, one in runs] == [
        (9, 2, 172), (5, 3, 834), (3, 4, 518)]  # fmt: skip
    assert number_of([-1, 0, 0, 0], tables.table(-1)) == 302 and "172, 834, 518" in page and ": 302." in page
    assert f"fidelity of {codec.fidelity(feature[None], [code]):.3f}" in page
    assert f"4 becomes {codec.coefficients(code)[0, 1, 0]:.2f}" in page


def number_of(values, table):
    """The number of one group of integers under a probability table."""
    number = 0
    for value in values:
        number = number * len(table.symbols) + value + table.limit - 1
    return number


def test_the_readme_is_at_most_150_lines_and_gives_the_measured_sizes():
    page = README.read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 150
    results = README.parents[1] / "results"
    bench, study = ((results / name).read_text() for name in ("bench/cache.md", "study_fidelity/compare.md"))
    for figure in ("3,714", "8,096", "12,808", "2,018", "4,590", "7,682", "760", "1,337", "2,813", "6,525", "1,000"):
        assert figure in page and f"{figure} bytes" in bench
    for figure in ("0.844", "0.827", "0.834", "0.838", "0.696", "0.688", "0.691"):
        assert figure in page and figure in study, figure
