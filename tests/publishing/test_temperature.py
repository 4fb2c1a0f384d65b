"""The temperature of a published student: fitted on validation, applied everywhere, and no mask changed by it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from published import write_student
from scipy.special import expit, logit
from small_run import disc_splits, read_disc, taught_tensors

import students
from distill.inference import load_model
from distill.inference.model import InferenceModel
from distill.inference.onnx_file import export_onnx, open_onnx
from distill.inference.segmenter import open_segmenter
from distill.metrics.overlap import labels
from distill.publishing.image_scores import score_images
from distill.publishing.temperature import (
    LARGEST,
    SMALLEST,
    best_temperature,
    find_temperature,
    nll,
    pixels_of,
    tempered,
)

SIZES = [(32, 32), (45, 62), (131, 67), (20, 200)]
TEMPERATURES = (0.4, 1.7, 6.0)


def model_of(temperature=1.0, classes=1):
    torch.manual_seed(0)
    student = students.create("unet", width=4, classes=classes)
    if classes == 1:
        student.load_state_dict(taught_tensors())
        with torch.no_grad():  # it was taught for an instant, and is sure of nothing
            student.head.weight *= 6
            student.head.bias *= 6
    else:
        torch.nn.init.normal_(student.head.weight, std=3.0)
    return InferenceModel(student, image_size=32, temperature=temperature).eval()


def images(seed=0):
    return [read_disc(seed + number, size, "image") for number, size in enumerate(SIZES)]


def convert(threshold, temperature):
    return float(expit(logit(threshold) / temperature))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("threshold", [0.05, 0.35, 0.5, 0.95])
def test_a_converted_threshold_gives_the_same_masks(temperature, threshold):
    plain, warm = model_of(), model_of(temperature)
    assert 0 < labels(plain.predict(images()[1]), threshold=threshold).mean() < 1
    for image in images():
        expected = labels(plain.predict(image), threshold=threshold)
        found = labels(warm.predict(image), threshold=convert(threshold, temperature))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_masks_of_several_classes_stay_the_same(temperature):
    plain, warm = model_of(classes=4), model_of(temperature, classes=4)
    for image in images():
        probability = warm.predict(image)
        np.testing.assert_allclose(probability.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(labels(probability), labels(plain.predict(image)))


def test_at_the_student_s_own_size_logits_are_divided_by_the_temperature():
    for classes in (1, 3):
        model = model_of(2.5, classes)
        image = torch.from_numpy(read_disc(0, (32, 32), "image"))[None]
        with torch.inference_mode():
            logits = model.student(model.normalised(image)) / 2.5
            expected = logits.sigmoid() if classes == 1 else logits.softmax(dim=1)
            torch.testing.assert_close(model(image), expected, atol=1e-5, rtol=0)


def test_a_student_without_a_temperature_keeps_its_probability(tmp_path):
    model = load_model(write_student(tmp_path))
    assert model.temperature == 1
    plain = InferenceModel(students.load(tmp_path), image_size=32).eval()
    for image in images():
        np.testing.assert_array_equal(model.predict(image), plain.predict(image))


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("temperature", [0.4, 6.0])
def test_the_onnx_file_has_the_temperature_inside(tmp_path, temperature, classes):
    model, path = model_of(temperature, classes), tmp_path / "model.onnx"
    threshold = convert(0.35, temperature) if classes == 1 else 0.5
    metadata = {"classes": str(classes), "threshold": str(threshold), "temperature": str(temperature)}
    export_onnx(model, path, metadata=metadata)
    run, segmenter = open_onnx(path), open_segmenter(path)
    assert {entry.key: entry.value for entry in onnx.load(path).metadata_props} == metadata
    for image in images():
        expected = model.predict(image)
        np.testing.assert_allclose(run(image[None])[0], expected, atol=2e-5, rtol=0)
        np.testing.assert_array_equal(segmenter.thresholds.mask(segmenter.probability(image)),
                                      labels(model_of(1.0, classes).predict(image), threshold=0.35))  # fmt: skip


@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_a_network_that_is_sure_stays_a_probability(value, monkeypatch):
    model = model_of(3.0)
    monkeypatch.setattr(model.student, "forward", lambda x: torch.full((len(x), 1, *x.shape[2:]), value))
    found = model.predict(images()[1])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, float(value > 0), atol=1e-6)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_temperature_by_which_logits_were_multiplied_is_found(true, classes):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, size=(40_000, classes))
    calibrated = tempered(logits, 1.0)
    truth = (calibrated.cumsum(axis=1) < random.random((len(logits), 1))).sum(axis=1)
    logs = np.log(tempered(true * logits, 1.0).clip(1e-30))
    assert best_temperature(logs, truth) == pytest.approx(true, rel=0.05)
    assert nll(logs, truth, true) <= nll(logs, truth, 1.0)


def test_the_fit_lowers_the_likelihood_s_cost_and_the_calibration_error():
    val, model = disc_splits().train, model_of()

    def sure(image):
        p = model.predict(image).clip(1e-6, 1 - 1e-6).astype(np.float64)
        return 1 / (1 + np.exp(-np.log(p / (1 - p)) * 4 - 1))

    found = find_temperature(sure, val, classes=1)
    assert found.images == len(val)
    assert found.nll < found.nll_before
    assert SMALLEST < found.temperature < LARGEST
    assert found.temperature == round(found.temperature, 4)


def test_a_network_that_never_errs_and_one_without_known_pixels_have_a_temperature():
    val = disc_splits().val
    masks = {sample.read_image().tobytes(): sample.read_mask() for sample in val}
    right = find_temperature(lambda image: (0.1 + 0.8 * masks[image.tobytes()])[None], val, classes=1)
    assert SMALLEST <= right.temperature < 0.2
    logs, truth = pixels_of(np.full((3, 4, 5), 1 / 3), np.full((4, 5), 255), most=100, classes=3)
    assert len(logs) == len(truth) == 0


def test_pixels_are_spread_and_void_ones_are_left_out():
    probability = np.stack([np.full((10, 10), 0.2), np.full((10, 10), 0.5), np.full((10, 10), 0.3)])
    mask = np.full((10, 10), 255)
    mask[5:] = 2
    logs, truth = pixels_of(probability, mask, most=7, classes=3)
    assert logs.shape == (7, 3) and (truth == 2).all()
    np.testing.assert_allclose(np.exp(logs), np.tile([0.2, 0.5, 0.3], (7, 1)), rtol=1e-6)
    logs, truth = pixels_of(np.full((1, 10, 10), 0.2), mask > 200, most=1000, classes=1)
    assert logs.shape == (100, 2) and truth.sum() == 50
    np.testing.assert_allclose(np.exp(logs[0]), [0.8, 0.2], rtol=1e-6)


def test_a_published_folder_is_served_at_its_temperature(tmp_path):
    folder = write_student(tmp_path, threshold=convert(0.35, 3.0))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "temperature": 3.0}))
    segmenter, image = open_segmenter(folder), images()[1]
    plain, warm = (InferenceModel(students.load(folder), image_size=32, temperature=t).eval() for t in (1.0, 3.0))
    np.testing.assert_array_equal(segmenter.probability(image), warm.predict(image))
    np.testing.assert_array_equal(
        segmenter.thresholds.mask(segmenter.probability(image)),
        labels(plain.predict(image), threshold=0.35),
    )


def test_the_scores_of_test_sets_are_told_with_an_auroc_or_why_there_is_none():
    test = disc_splits().test
    found = score_images(model_of(), test)
    assert set(found) == {"left", "right"}
    assert found["left"]["images"] == 3
    assert found["left"]["auroc"] is None
    assert found["left"]["reason"] == "no image has a Dice below 0.5"
    assert 0 < found["left"]["expected_dice"] <= 1
