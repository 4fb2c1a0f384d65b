"""`distill weights do=selftest`: real checkpoints against stored figures, from local folders and from a hub."""

from __future__ import annotations

import json
import shutil

import pytest
from small_teachers import write_dinov2, write_sam2, write_timm

from distill.cli import weights_selftest
from distill.cli.weights import COMMAND
from distill.cli.weights_selftest import GOLDEN, SUBJECTS, TOLERANCE
from distill.run import main
from teachers import TEACHERS
from teachers.weights.known import MEASURED, PUBLISHED


@pytest.fixture
def folder(tmp_path):
    """Small checkpoints by the names of real ones, and a place for what is stored of them."""
    write_dinov2(tmp_path / "dinov2-small")
    write_sam2(tmp_path / "sam2.1-hiera-tiny")
    return tmp_path


def words(folder, *more):
    return ["weights", "do=selftest", f"golden={folder / 'golden.json'}", *more]


def test_there_is_one_of_each_adapter_and_what_is_fetched_is_known():
    assert {subject.adapter for subject in SUBJECTS.values()} == TEACHERS.keys() - {"sam2"}  # the older name of fpn
    known = {entry.name: entry for entry in PUBLISHED}
    for name, subject in SUBJECTS.items():
        assert name in known or subject.weights or subject.config
        assert known[name].teacher in (subject.adapter, "sam2") if name in known else True


def test_figures_are_written_where_there_are_none_then_compared_and_a_difference_is_an_error(folder, capsys):
    given = [f"from={folder}", "name=dinov2-small,sam2.1-hiera-tiny"]
    assert main(words(folder, *given)) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"golden written to {folder / 'golden.json'}, which had none") == 2
    assert main(words(folder, *given)) == 0
    shown = capsys.readouterr().out
    assert shown.count("equal: largest difference 0.0e+00 standard deviations, in ") == 2
    stored = json.loads((folder / "golden.json").read_text())
    assert stored["tolerance"] == TOLERANCE
    entry = stored["checkpoints"]["sam2.1-hiera-tiny"]["maps"]["fpn1"]
    assert entry["shape"] == [32, 16, 16] and len(entry["values"]) == 8
    entry["values"][3] += 0.02 * entry["std"]
    (folder / "golden.json").write_text(json.dumps(stored))
    assert main(words(folder, *given)) == 1
    shown = capsys.readouterr().out
    assert "DIFFERS: largest difference 2.0e-02 standard deviations, in fpn1; at most 0.01 is allowed" in shown
    assert "equal: largest difference" in shown
    stored["image"]["sha256"] = "0" * 64
    (folder / "golden.json").write_text(json.dumps(stored))
    assert main(words(folder, f"from={folder}", "name=dinov2-small")) == 0
    assert "the generator draws another image here" in capsys.readouterr().out


def test_other_weights_and_damaged_ones_are_told(folder, capsys):
    assert main(words(folder, f"from={folder}", "name=dinov2-small")) == 0
    write_dinov2(folder / "dinov2-small", seed=1)
    assert main(words(folder, f"from={folder}", "name=dinov2-small")) == 1
    assert "DIFFERS: weights are " in capsys.readouterr().out
    (folder / "dinov2-small" / "model.safetensors").write_bytes(b"half")
    assert main(words(folder, f"from={folder}", "name=dinov2-small")) == 1
    assert "DOES NOT LOAD: " in capsys.readouterr().out
    timm = write_timm(folder / "timm")["weights"]
    assert main(words(folder, f"from={timm}", f"name={MEASURED}")) == 1
    assert "is not the weights of" in capsys.readouterr().out


def test_a_hub_serves_them_and_what_it_does_not_serve_is_left_out(folder, monkeypatch, capsys):
    """A hub that has one checkpoint of those that are asked for; no socket is opened."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "cache"))
    served = next(entry.hub_id for entry in PUBLISHED if entry.name == "sam2.1-hiera-tiny")

    def download(hub_id, filename, *, revision):
        if hub_id != served:
            raise ConnectionError("no such repository")
        place = folder / "cache" / filename
        place.parent.mkdir(exist_ok=True)
        return shutil.copy(folder / "sam2.1-hiera-tiny" / filename, place)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    few = {name: SUBJECTS[name] for name in ("sam2.1-hiera-tiny", "dinov3-convnext-tiny", "mobilenetv2-coral")}
    monkeypatch.setattr(weights_selftest, "SUBJECTS", few)
    assert main(words(folder, "--dry-run")) == 0
    assert "sam2.1-hiera-tiny: facebook/sam2.1-hiera-tiny\n" in capsys.readouterr().out
    assert main(words(folder)) == 0
    shown = capsys.readouterr().out
    assert "golden written to" in shown
    assert (
        "not tested: facebook/dinov3-convnext-tiny-pretrain-lvd1689m is not in the hub's cache, and the hub said"
        in shown
    )
    assert "not tested: no hub serves it" in shown
    assert main(words(folder, "name=dinov3-convnext-tiny")) == 1  # what is named is wanted
    assert main(words(folder, f"from={folder / 'cache'}", "name=sam2.1-hiera-tiny")) == 0
    assert main(words(folder, f"from={folder / 'nowhere'}", "name=sam2.1-hiera-tiny")) == 1


def test_what_comes_with_bandpass_is_what_is_stored(capsys):
    assert main(["weights", "do=selftest", "name=builtin,polyp-small,polyp-ensemble"]) == 0
    assert capsys.readouterr().out.count("equal: ") == 3


@pytest.mark.parametrize(
    ("name", "file"),
    [(MEASURED, "tf_efficientnet_b0.tracer"), ("mobilenetv2-coral", "mobilenetv2_100.coral")],
)
def test_real_weights_are_what_is_stored(name, file, shared, capsys):
    before = GOLDEN.read_bytes()
    assert main(["weights", "do=selftest", f"name={name}", f"from={shared / 'weights' / file}.safetensors"]) == 0
    assert "equal: " in capsys.readouterr().out
    assert GOLDEN.read_bytes() == before


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no selftest of 'dinov2-smal'; choose from .*; did you mean 'dinov2-small'"):
        COMMAND(["do=selftest", "name=dinov2-smal"], dry=False)
