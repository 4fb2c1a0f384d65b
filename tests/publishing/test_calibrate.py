"""`distill calibrate`: a student with thresholds and temperature of a new hospital, and the same weights."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from published import write_carded_student, write_disc, write_student
from small_run import read_disc

import distill
import students
from distill.config.schema import DataRecipe
from distill.inference import load_model
from distill.inference.model import InferenceModel
from distill.inference.thresholds import Thresholds
from distill.publishing.calibrate import check_inputs
from distill.publishing.operating_point import choose_thresholds
from distill.run import main

SIZE = (45, 62)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("BANDPASS_THREADS", "1")


@pytest.fixture
def student(tmp_path):
    return write_carded_student(tmp_path / "published" / "student")


@pytest.fixture
def hospital(tmp_path):
    """Eight frames with a disc and four of the ground alone, with a patch that looks like one."""
    folder = tmp_path / "hospital"
    (folder / "masks").mkdir(parents=True)
    for seed in range(12):
        path = folder / "images" / f"{seed:02}.png"
        image, mask = write_disc(path, seed, SIZE), read_disc(seed, SIZE, "mask")
        if seed >= 8:
            ground = np.where(mask[..., None] > 0, np.array([95, 60, 90], np.uint8), image)
            Image.fromarray(ground).save(path)
            mask = np.zeros_like(mask)
        Image.fromarray(255 * mask).save(folder / "masks" / f"{seed:02}.png")
    return folder


def run(*words):
    return main(["calibrate", *words])


def test_a_student_is_calibrated_and_says_so_on_its_card_and_in_its_config(student, hospital, tmp_path, capfd):
    out = tmp_path / "out"
    words = [f"student={student}", f"data.root={hospital}", f"out={out}", f"home={tmp_path / 'home'}"]
    assert run(*words, "--dry-run") == 0
    assert not out.exists() and "would calibrate" in capfd.readouterr().err
    assert run(*words) == 0
    told = capfd.readouterr().out
    assert "chosen" in told and "of 8" in told and "of 4" in told and "so too high: test on others" in told
    config, before = students.read_config(out), students.read_config(student)
    record = config.pop("calibrated")
    changed = {"threshold", "region_threshold", "temperature"}
    assert {name for name in config if config[name] != before.get(name)} == changed
    assert (record["source"], record["images"], record["shown"], len(record["sha256"])) == ("student", 12, 8, 64)
    assert record["erased"] == 0 and f"in {record['false_alarms']} of the other 4" in (out / "README.md").read_text()
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (hospital / "images").iterdir()]
    assert record["sha256"] == hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    assert (out / "model.safetensors").read_bytes() == (student / "model.safetensors").read_bytes()
    card = (out / "README.md").read_text()
    front = "---\nlicense: other\nlicense_name: terms-of-discs\n---\n\n"
    assert card.startswith(f"{front}> **Calibrated anew.** This is `student` with thresholds")
    assert f"in {record['found']} of 8\n> images" in card and "model-index" not in card and "# Discs" in card
    assert (out / "learned.json").exists()
    model = load_model(out)
    assert model.thresholds == Thresholds(config["threshold"], config["region_threshold"])
    assert model.temperature == config["temperature"] != 1


def test_images_that_all_show_an_object_are_also_tried_without_it(student, hospital, tmp_path, capfd):
    for path in (*hospital.glob("*/08.png"), *hospital.glob("*/09.png"), *hospital.glob("*/1*.png")):
        path.unlink()
    out = tmp_path / "out"
    assert run(f"student={student}", f"data.root={hospital}", f"out={out}", f"home={tmp_path / 'home'}") == 0
    told, record = capfd.readouterr(), students.read_config(out)["calibrated"]
    erased = record["erased"]
    assert (record["images"], record["shown"]) == (8, 8) and 0 < erased < 8
    assert f"each of 8 images shows an object, so {erased} made of them by covering it tell false alarms" in told.err
    assert f" of {erased} " in told.out and "no such image" not in told.out
    card = " ".join((out / "README.md").read_text().replace("> ", "").split())
    assert "fitted on 8 images with masks" in card
    assert f"have a false alarm in {record['false_alarms']} of {erased} made of them by covering it" in card


def test_the_thresholds_are_those_of_the_calibrated_probability(student, hospital, tmp_path):
    choice = distill.calibrate(student, hospital, out=tmp_path / "out", home=tmp_path / "home")
    model = load_model(tmp_path / "out")
    recipe = DataRecipe(name="folder", root=str(hospital))
    samples = check_inputs(student, recipe, out=tmp_path / "new", home=tmp_path / "home").samples
    assert choose_thresholds(model.predict, samples) == choice
    found = distill.predict(tmp_path / "out", hospital / "images", out=tmp_path / "masks").found
    hits = sum(np.asarray(Image.open(path)).any() for path in (tmp_path / "masks" / "masks").iterdir())
    assert found == hits >= choice.chosen.found + choice.chosen.false_alarms


def test_a_sensitivity_is_kept(student, hospital, tmp_path):
    for asked in (0.5, 1.0):
        out = tmp_path / f"{asked}"
        choice = distill.calibrate(student, hospital, out=out, sensitivity=asked, home=tmp_path / "home")
        assert choice.chosen.found >= asked * choice.shown


def test_images_that_the_student_has_learned_from_are_refused(student, hospital, tmp_path, capfd):
    key = hashlib.sha256((hospital / "images" / "03.png").read_bytes()).hexdigest()
    (student / "learned.json").write_text(json.dumps({"labelled": [key]}))
    assert (
        run(f"student={student}", f"data.root={hospital}", f"out={tmp_path / 'out'}", f"home={tmp_path / 'home'}") == 1
    )
    assert "was trained on 1 of these 12 images, where it is surer than elsewhere" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_calibrated_is_refused(student, hospital, tmp_path):
    home = tmp_path / "home"
    with pytest.raises(ValueError, match=r"out=.* exists already"):
        distill.calibrate(student, hospital, out=student, home=home)
    several = write_student(tmp_path / "several", classes=3)
    with pytest.raises(ValueError, match=r"has 3 classes, .* there is no threshold to choose"):
        distill.calibrate(several, hospital, out=tmp_path / "out", home=home)
    for seed in range(7):
        for part in ("images", "masks"):
            (hospital / part / f"{seed:02}.png").unlink()
    with pytest.raises(ValueError, match=r"at least 8 different images that show an object .* got 1 \(and 4 without"):
        distill.calibrate(student, hospital, out=tmp_path / "out", home=home)
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"sensitivity is .*, but must be above 0 and at most 1"):
            distill.calibrate(student, hospital, out=tmp_path / "out", sensitivity=wrong, home=home)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"out=.*file/new cannot be written: .*file is no folder"):
        distill.calibrate(student, hospital, out=tmp_path / "file" / "new", home=home)


def test_a_student_that_finds_no_object_is_not_calibrated(student, hospital, tmp_path, monkeypatch):
    def blind(model, image):
        return np.full((1, *image.shape[:2]), 0.01, np.float32)

    monkeypatch.setattr(InferenceModel, "predict", blind)
    with pytest.raises(ValueError, match=r"not calibrated: .* finds no object in any of the 8 images that show one"):
        distill.calibrate(student, hospital, out=tmp_path / "out", home=tmp_path / "home")
    assert not (tmp_path / "out").exists()


def test_what_appears_in_the_folder_meanwhile_is_kept(student, hospital, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predict = InferenceModel.predict

    def busy(model, image):
        out.mkdir(exist_ok=True)
        (out / "mine.txt").write_text("mine")
        return predict(model, image)

    monkeypatch.setattr(InferenceModel, "predict", busy)
    with pytest.raises(ValueError, match=r"out=.* exists already"):
        distill.calibrate(student, hospital, out=out, home=tmp_path / "home")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_dry_run_refuses_what_the_run_would_refuse_and_bad_images_can_be_left_out(student, hospital, tmp_path, capfd):
    (hospital / "masks" / "11.png").unlink()
    words = [f"student={student}", f"data.root={hospital}", f"out={tmp_path / 'out'}", f"home={tmp_path / 'home'}"]
    assert run(*words, "--dry-run") == 1
    assert "data.skip_bad=true" in capfd.readouterr().err
    assert run(*words, "data.skip_bad=true", "--dry-run") == 0
    assert "on 11 images" in capfd.readouterr().err


def test_a_calibrated_student_is_calibrated_again(student, hospital, tmp_path):
    for before, after in ((student, "once"), (tmp_path / "once", "twice")):
        distill.calibrate(before, hospital, out=tmp_path / after, home=tmp_path / "home")
    first, second = (students.read_config(tmp_path / name) for name in ("once", "twice"))
    assert second["calibrated"]["earlier"] == first["calibrated"]
    assert second["calibrated"]["source"] == "once"
    assert {name: first[name] for name in ("threshold", "region_threshold", "temperature")} == {
        name: second[name] for name in ("threshold", "region_threshold", "temperature")
    }
