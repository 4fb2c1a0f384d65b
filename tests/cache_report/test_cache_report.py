"""`distill cache`: what a cache costs and how faithful it is, whether it is whole, and sharing it."""

from __future__ import annotations

import hashlib
import json
import logging

import pytest
import torch

import cache
from cache.spec import FeatureSpec, MapSpec
from distill.cache_report.plot import short
from distill.cache_report.report import report, table
from distill.cli.cache import COMMAND, require_sense

cache_command = COMMAND

SPEC = FeatureSpec((MapSpec("neck", 6, (8, 8), 16), MapSpec("p3", 4, (12, 12), 8)))


def key(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def smooth(count, map_, seed):
    """Random maps with a falling spectrum."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, map_.channels, *map_.grid, generator=generator)
    return noise.cumsum(-1).cumsum(-2) + noise


CODECS = {map_.name: cache.fit(smooth(32, map_, 0), fidelity=0.9) for map_ in SPEC}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "sam-1f3a"
    cache.create(
        path,
        spec=SPEC,
        codecs=CODECS,
        identity={"teacher": "sam", "weights": "1f3a" * 16, "image_size": 128},
        licence="Apache-2.0",
        fidelity=0.9,
        batch_size=4,
        views=("identity", "hflip"),
        calibration=[key(0)],
    )
    for run in cache.plan(path, [key(i) for i in range(6)], ("identity", "hflip")):
        features = {map_.name: smooth(len(run), map_, 1) for map_ in SPEC}
        coded = {name: CODECS[name].encode_batch(maps) for name, maps in features.items()}
        codes = [(*record, {name: coded[name][i] for name in coded}) for i, record in enumerate(run)]
        reached = {name: CODECS[name].fidelity(features[name], coded[name]) for name in coded}
        cache.write_shard(path, codes, fidelity=reached)
    return path


def files(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(".")}


def test_the_report_counts_every_byte_of_the_codes(folder):
    found = report(cache.open(folder))
    assert (found.records, found.images, found.views) == (12, 6, {"identity": 6, "hflip": 6})
    assert found.nbytes == sum(map(len, files(folder).values()))
    store = cache.open(folder)
    for map_ in found.maps:
        sizes = {band: sum(len(store.read(*r, map=map_.name)[band]) for r in store) / 12 for band in ("low", "high")}
        assert {band: map_.bytes[band] for band in sizes} == pytest.approx(sizes)
        assert map_.bytes["index"] == 16  # two tables of two uint32
        assert map_.raw["fp16"] == 2 * torch.Size(map_.shape).numel()
        assert map_.smaller == pytest.approx(map_.raw["fp16"] / (sum(sizes.values()) + 16))
        assert sum(map_.energy.values()) == pytest.approx(1)
        assert 0 < map_.error < 0.4
        assert 0.8 < map_.ratio < 2.5
        assert map_.written[1] <= map_.written[0] <= map_.written[2]


def test_the_error_that_the_report_foretells_is_that_of_decoded_maps(folder):
    for map_, codec in zip(SPEC, CODECS.values(), strict=True):
        features = smooth(40, map_, 2)
        normal = (features - codec.mean[:, None, None]) / codec.scale[:, None, None] * codec.gain
        decoded = torch.stack([codec.decode(code) for code in codec.encode_batch(features)])
        missed = normal.square().sum() - 2 * (codec.project(features) * decoded).sum() + decoded.square().sum()
        found = next(entry for entry in report(cache.open(folder)).maps if entry.name == map_.name)
        assert found.error * sum(codec.energies().values()) == pytest.approx(float(missed) / 40, rel=0.25)


def test_the_command_writes_a_table_a_picture_and_figures(folder, capsys):
    before = files(folder)
    assert cache_command([f"cache={folder}"], dry=False) == 0
    out = folder.parent / "sam-1f3a-report"
    said = capsys.readouterr().out
    assert "12 records of 6 images (6 identity, 6 hflip)" in said
    assert "Teacher: sam, at 128 pixels, weights 1f3a1f3a1f3a. Licence of its weights: Apache-2.0." in said
    assert (out / "report.md").read_text().startswith(said)
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    data = json.loads((out / "report.json").read_text())
    assert data["maps"][0]["name"] == "neck" and data["maps"][0]["ratio_to_reference"] > 0.8
    assert files(folder) == before


def test_an_empty_cache_is_reported_as_empty(folder, tmp_path):
    for shard in folder.glob("shard-*"):
        shard.unlink()
    assert cache_command([f"cache={folder}", f"out={tmp_path / 'here'}"], dry=False) == 0
    assert "It holds no records yet: distill extract fills it." in (tmp_path / "here" / "report.md").read_text()
    assert not (tmp_path / "here" / "report.png").exists()
    assert json.loads((tmp_path / "here" / "report.json").read_text())["records"] == 0


def test_verify_is_silent_on_a_whole_cache_and_names_damage_and_remedy(folder, capsys, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "bandpass")
    monkeypatch.setattr(logging.getLogger("bandpass"), "propagate", True)
    assert cache_command(["do=verify", f"cache={folder}"], dry=False) == 0
    assert "every byte is as it was written" in capsys.readouterr().out
    shard = next(folder.glob("shard-*"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert cache_command(["do=verify", f"cache={folder}"], dry=False) == 1
    assert (
        f"{shard.name}: its bytes are not those its name was made from; to extract again: " in capsys.readouterr().out
    )
    assert "1 problem; distill extract with the recipe that made it repairs it" in caplog.text
    assert "in a copy (read by teachers.NAME.cache) remove the files named, and export or import it ag" in caplog.text
    (folder / "codec-p3.safetensors").write_bytes(b"")
    assert cache_command(["do=verify", f"cache={folder}"], dry=False) == 1
    assert "codec-p3.safetensors is damaged or missing; distill extract with the recipe" in capsys.readouterr().out


def test_an_exported_cache_is_imported_bit_for_bit(folder, tmp_path):
    assert cache_command(["do=export", f"cache={folder}", f"out={tmp_path / 'hub'}"], dry=False) == 0
    card = (tmp_path / "hub" / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "teachers.NAME.cache=" in card and '"teacher": "sam"' in card and "| neck" in card
    assert cache_command(["do=import", f"cache={tmp_path / 'hub'}", f"out={tmp_path / 'home'}"], dry=False) == 0
    assert files(tmp_path / "home") == files(folder)
    for name in ("shard-*", "manifest.json", "codec-p3*"):  # as after a kill, or removed since they were damaged
        next((tmp_path / "home").glob(name)).unlink()
    assert cache_command(["do=import", f"cache={tmp_path / 'hub'}", f"out={tmp_path / 'home'}"], dry=False) == 0
    assert files(tmp_path / "home") == files(folder)


def test_a_damaged_cache_is_not_shared_nor_put_into_another_one(folder, tmp_path):
    other = tmp_path / "other"
    settings = {"licence": "MIT", "fidelity": 0.9, "batch_size": 4, "views": ("identity",), "calibration": [key(0)]}
    cache.create(other, spec=SPEC, codecs=CODECS, identity={"teacher": "dinov2"}, **settings)
    with pytest.raises(ValueError, match=r"other holds another cache than .*sam-1f3a; choose another folder with out="):
        cache_command(["do=export", f"cache={folder}", f"out={other}"], dry=False)
    shard = next(folder.glob("shard-*"))
    (folder / "shard-notes.txt").write_text("no part of it")
    cache_command(["do=export", f"cache={folder}", f"out={tmp_path / 'whole'}"], dry=False)
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is damaged: shard-.*\. If you were given the cache, get that file again"):
        cache_command(["do=export", f"cache={folder}", f"out={tmp_path / 'hub'}"], dry=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["do=reprot", "cache=x"], r"do is 'reprot', but must be one of report, verify, export, import; did you mean"),
        (["do=verify"], r"needs cache=, as in distill cache \[do=report\] cache=DIR"),
        (["cache=x", "ouz=y"], r"has no key 'ouz'; did you mean 'out'\?"),
        (["cache=x", "images=0"], r"images is '0', but must be a whole number of at least 1"),
    ],
)
def test_wrong_words_are_told(words, message):
    with pytest.raises(ValueError, match=message):
        require_sense(cache_command.read(words))


def test_a_folder_without_a_cache_is_told_and_a_copy_needs_a_place(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no cache \(no manifest.json\); distill extract makes one"):
        require_sense(cache_command.read([f"cache={tmp_path}"]))
    with pytest.raises(ValueError, match="export and import need out=DIR"):
        require_sense(cache_command.read([f"cache={folder}", "do=report,export"]))


def test_a_dry_run_writes_nothing(folder, tmp_path):
    assert cache_command(["do=export", f"cache={folder}", f"out={tmp_path / 'hub'}"], dry=True) == 0
    assert not (tmp_path / "hub").exists()


def test_tables_are_straight_and_bytes_short():
    lines = table(("map", "bytes"), [("neck", "1,000"), ("p3", "9")])
    assert lines == ["| map  | bytes |", "| ---- | ----: |", "| neck | 1,000 |", "| p3   |     9 |"]
    assert [short(n) for n in (860, 7600, 1.2e6)] == ["860 B", "7.6 kB", "1.2 MB"]
