"""`distill adapt`: the statistics of new images, a folder that says so, and nothing where confidence falls."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
import yaml
from PIL import Image
from published import write_carded_student, write_disc
from small_run import read_disc
from torch.nn.modules.batchnorm import _BatchNorm

import students
from distill.inference import load_model
from distill.metrics.overlap import labels, overlap
from distill.publishing.adapt import Answer, adapt, compare_answers
from distill.publishing.batch_norm import estimate_statistics, norms_of, readable
from distill.publishing.derived import beside, noted
from distill.run import main

SIZE = (45, 62)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("BANDPASS_THREADS", "1")


@pytest.fixture
def student(tmp_path):
    return write_carded_student(tmp_path / "published" / "student")


def darker(pixels):
    """A picture as another camera takes it: less light, less contrast, another tint."""
    return (pixels * np.array([0.6, 0.5, 0.7]) + np.array([5, 20, 0])).astype(np.uint8)


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    for seed in range(20):
        write_disc(folder / f"{seed:02}.png", seed, SIZE)
        Image.fromarray(darker(read_disc(seed, SIZE, "image"))).save(folder / f"{seed:02}.png")
    return folder


def dice_of(folder, frames):
    model = load_model(folder)
    found = [labels(model.predict(np.array(Image.open(path)))) for path in sorted(frames.iterdir())]
    return np.mean([overlap(mask, read_disc(seed, SIZE, "mask"))[0] for seed, mask in enumerate(found)])


def test_a_student_is_adapted_to_another_camera_and_says_so(student, frames, tmp_path, capfd):
    out = tmp_path / "adapted"
    assert main(["adapt", f"student={student}", f"images={frames}", f"out={out}"]) == 0
    told = capfd.readouterr()
    assert "adapted to 20 images: mean image score of findings 0." in told.out
    assert "these scores prove nothing" in told.out
    assert "estimate statistics 2/2 batches" in told.err
    assert dice_of(out, frames) > dice_of(student, frames) + 0.05
    before, config = students.read_config(student), students.read_config(out)
    record = config.pop("adapted")
    assert config == before
    assert (record["source"], record["images"], len(record["sha256"])) == ("student", 20, 64)
    assert record["score"] >= record["score_before"]
    assert main(["publish", f"student={out}", f"onnx={tmp_path / 'model.onnx'}"]) == 0
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert metadata["adapted"] == record["sha256"]
    front, body = (out / "README.md").read_text().removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(front) == {"license": "other", "license_name": "terms-of-discs"}
    assert body.lstrip().startswith("> **Adapted.** This is `student` with batch-norm statistics estimated anew")
    assert "thresholds and temperature are unchanged: they were fitted for that student" in body
    assert "measure adaptation" in body and "not generalisation" in body and "# Discs" in body
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "config.json", "README.md", "learned.json"}


def test_weights_stay_and_only_statistics_change(student, frames, tmp_path):
    adapt(student, frames, out=tmp_path / "adapted")
    before, after = students.load(student).state_dict(), students.load(tmp_path / "adapted").state_dict()
    changed = {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}
    assert changed <= {"running_mean", "running_var", "num_batches_tracked"}
    assert {"running_mean", "running_var"} <= changed


def test_statistics_are_the_plain_mean_over_batches_of_all_images(student, frames):
    model, seen = load_model(student), readable_frames(frames)
    adapted = estimate_statistics(model, seen)
    first, old = norms_of(adapted)[0], norms_of(model)[0]
    assert first.momentum == old.momentum and not first.training and int(first.num_batches_tracked) == 2
    convolution = next(one for one in model.student.modules() if isinstance(one, torch.nn.Conv2d))
    means, variances = [], []
    for batch in (seen[0::2], seen[1::2]):
        pixels = [torch.from_numpy(np.array(Image.open(path)))[None] for path, _ in batch]
        with torch.no_grad():
            maps = convolution(torch.cat([model.normalised(image) for image in pixels]))
        means.append(maps.mean(dim=(0, 2, 3)))
        variances.append(maps.var(dim=(0, 2, 3)))
    torch.testing.assert_close(first.running_mean, torch.stack(means).mean(dim=0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first.running_var, torch.stack(variances).mean(dim=0), atol=1e-5, rtol=1e-4)


def readable_frames(folder):
    from distill.inference.inputs import find_inputs

    return readable(find_inputs(str(folder), out=folder / "none")[0])


def test_where_the_image_score_falls_nothing_is_written(student, tmp_path, monkeypatch, capfd):
    for seed in range(8):
        write_disc(tmp_path / "frames" / f"{seed}.png", seed, SIZE)

    def blind(model, frames):
        model.student.head.bias.data -= 9
        return model

    monkeypatch.setattr("distill.publishing.adapt.estimate_statistics", blind)
    out = tmp_path / "adapted"
    assert main(["adapt", f"student={student}", f"images={tmp_path / 'frames'}", f"out={out}"]) == 1
    told = capfd.readouterr().err
    assert "not adapted: with statistics of these 8 images the mean image score of findings fell from 0." in told
    assert "to 0.000 (images with a finding: 8, then 0), so nothing was written" in told
    assert not out.exists()


def test_a_finding_that_is_lost_counts_nothing():
    before = [Answer(0.8, True), Answer(0.9, False)]
    after = [Answer(0.99, False), Answer(0.7, True)]
    found = compare_answers(before, after, source="s", digests=["b", "a"])
    assert (found.score_before, found.score) == (pytest.approx(0.8), pytest.approx(0.35))
    assert (found.found_before, found.found, found.images) == (1, 1, 2)
    nothing = compare_answers([Answer(0.9, False)], [Answer(0.9, False)], source="s", digests=["a"])
    assert (nothing.score_before, nothing.score) == (0, 0)
    assert found.sha256 == compare_answers(before, after, source="s", digests=["a", "b"]).sha256


def test_a_student_without_batch_norm_is_refused(frames, tmp_path):
    student = students.create("malunet", width=8)
    assert not any(isinstance(one, _BatchNorm) for one in student.modules())
    config = {"student": "malunet", "width": 8, "classes": 1, "image_size": 32}
    student.save_pretrained(tmp_path / "s", config={**config, "mean": students.MEAN, "std": students.STD})
    with pytest.raises(ValueError, match=r"has no batch norm with running statistics, so there is nothing to"):
        adapt(tmp_path / "s", frames, out=tmp_path / "adapted")


def test_what_is_missing_or_in_the_way_is_told(student, frames, tmp_path, capfd):
    with pytest.raises(ValueError, match=r"exists already; choose an empty or a new folder"):
        adapt(student, frames, out=student)
    for path in sorted(frames.iterdir())[7:]:
        path.unlink()
    (frames / "broken.png").write_bytes(b"no picture")
    words = ["adapt", f"student={student}", f"images={frames}", f"out={tmp_path / 'adapted'}"]
    assert main(words) == 1
    told = capfd.readouterr().err
    assert f"left out {frames / 'broken.png'}: it cannot be read" in told
    assert "expected at least 8 images to estimate statistics from, got 7; give more" in told
    assert main([*words, "--dry-run"]) == 0
    assert "would adapt" in capfd.readouterr().err
    assert not (tmp_path / "adapted").exists()


def test_a_student_of_the_zoo_is_adapted_by_its_name(student, frames, tmp_path, monkeypatch):
    shutil.copytree(student, tmp_path / "zoo" / "discs")
    monkeypatch.setattr("students.catalogue.FOLDER", tmp_path / "zoo")
    found = adapt("zoo:discs", frames, out=tmp_path / "adapted")
    assert found.source == "zoo:discs"
    assert json.loads((tmp_path / "adapted" / "config.json").read_text())["adapted"]["source"] == "zoo:discs"


def test_a_card_without_front_matter_gets_the_note_alone():
    assert noted("", "> A note.") == "> A note.\n"
    assert noted("---\n\n---\n\n# Discs\n", "> A note.\n") == "> A note.\n\n# Discs\n"


def test_where_the_student_finds_nothing_no_score_can_tell(student, frames, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.publishing.adapt.answer_of", lambda *_: Answer(0.9, False))
    with pytest.raises(ValueError, match=r"not adapted: .*student finds nothing in any of these 20 images, so no"):
        adapt(student, frames, out=tmp_path / "adapted")
    assert not (tmp_path / "adapted").exists()


def test_a_student_that_was_adapted_before_keeps_both_records(student, frames, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.publishing.adapt.answer_of", lambda *_: Answer(0.9, True))
    adapt(student, frames, out=tmp_path / "once")
    adapt(tmp_path / "once", frames, out=tmp_path / "twice")
    first, second = (students.read_config(tmp_path / name)["adapted"] for name in ("once", "twice"))
    assert second["earlier"] == first and "earlier" not in first
    students.load(tmp_path / "twice")


def test_a_file_that_the_hub_has_not_is_left_out_and_an_outage_is_told(monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def failing(error):
        def fetch(*_):
            raise error

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)

    failing(EntryNotFoundError("404"))
    assert beside("owner/name", "learned.json") is None
    for error in (LocalEntryNotFoundError("no connection"), OSError("timed out")):
        failing(error)
        with pytest.raises(
            ConnectionError, match=r"cannot be fetched: .*; learned\.json would be missing from the new"
        ):
            beside("owner/name", "learned.json")


@pytest.mark.parametrize("words", [["adapt", "images=none", "out=none"], ["publish", "onnx=made.onnx"]])
def test_a_student_s_onnx_file_is_neither_offered_nor_taken_for_a_hub_id(words, student, monkeypatch, capfd):
    monkeypatch.chdir(student.parent)
    (student / "model.onnx").write_bytes(b"")
    if words[0] == "adapt":  # the help of the verb publish is another command's
        assert main([words[0], "--help"]) == 0
        assert "zoo:NAME" in (told := capfd.readouterr().out) and "|model.onnx" not in told
    for dry in ([], ["--dry-run"]):
        assert main([*words, "student=student/model.onnx", *dry]) == 1
        assert "expected the folder of a published student, got the file student/model.onnx" in capfd.readouterr().err
