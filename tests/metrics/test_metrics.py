"""Overlap and intervals, and the evaluation that writes them down."""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import save_file
from small_run import small_run

from distill.evaluation.cost import cost
from distill.evaluation.evaluate import evaluate
from distill.evaluation.predictions_csv import read_predictions
from distill.evaluation.scoring import predict_image, score, validate
from distill.inference.model import InferenceModel
from distill.metrics.bootstrap import LEAST_GROUPS, count_sequences, resampled_means, summary
from distill.metrics.overlap import dice, iou, labels, overlap, precision, sensitivity
from distill.runs.weights import load_student
from distill.training.train import train

evaluation = import_module("distill.evaluation.evaluate")  # the module: the package has a function of that name
FULL, EMPTY = np.ones((3, 4), dtype=bool), np.zeros((3, 4), dtype=bool)


def test_figures_equal_a_count_by_hand():
    truth, prediction = np.zeros((2, 4, 5), dtype=bool)
    truth[1:3, 1:4] = True  # 6 pixels
    prediction[2:4, 1:5] = True  # 8 pixels, 3 of them true
    assert dice(prediction, truth) == pytest.approx(6 / 14)
    assert iou(prediction, truth) == pytest.approx(3 / 11)
    assert sensitivity(prediction, truth) == pytest.approx(3 / 6)
    assert precision(prediction, truth) == pytest.approx(3 / 8)


@pytest.mark.parametrize("measure", [dice, iou])
def test_two_empty_masks_agree_and_one_empty_mask_does_not(measure):
    assert measure(EMPTY, EMPTY) == 1
    assert measure(FULL, FULL) == 1
    assert measure(EMPTY, FULL) == 0
    assert measure(FULL, EMPTY) == 0


@settings(deadline=None)
@given(arrays.arrays(bool, (2, 3, 5, 4)))
def test_a_stack_of_masks_scores_as_its_masks_do_and_iou_follows_from_dice(stack):
    prediction, truth = stack
    together = dice(prediction, truth)
    assert together.tolist() == [float(dice(p, t)) for p, t in zip(prediction, truth, strict=True)]
    np.testing.assert_allclose(iou(prediction, truth), together / (2 - together))


def test_figures_equal_those_of_pysodmetrics(shared):
    expected = json.loads((shared / "golden" / "metrics.json").read_text())["per_image"]
    with np.load(shared / "golden" / "metrics.npz") as pairs:
        for number, figures in expected.items():
            prediction, truth = pairs[f"p{number}"] > 127, pairs[f"g{number}"] > 127
            if prediction.any() or truth.any():
                assert dice(prediction, truth) == pytest.approx(figures["dice_at_half"], abs=1e-12)
                assert iou(prediction, truth) == pytest.approx(figures["iou_at_half"], abs=1e-12)


def test_a_prediction_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"mask's shape \(3, 4\), got \(3, 3\); resize the probability to the mask"):
        dice(EMPTY[:, :3], FULL)


def test_a_probability_of_one_half_is_foreground():
    assert labels(np.array([[[0.49, 0.5, 0.51]]])).tolist() == [[0, 1, 1]]
    assert labels(np.array([[[0.2, 0.5]], [[0.3, 0.1]], [[0.5, 0.4]]])).tolist() == [[2, 0]]


def test_several_classes_are_averaged_where_they_occur_and_ignored_pixels_count_for_nothing():
    truth = np.array([[0, 1, 1, 255], [0, 0, 2, 255]])
    predicted = np.array([[0, 1, 0, 2], [0, 0, 2, 3]])
    assert overlap(predicted, truth, classes=4) == (pytest.approx((2 / 3 + 1) / 2), pytest.approx((1 / 2 + 1) / 2))
    assert overlap(np.zeros((2, 4)), np.zeros((2, 4)), classes=4) == (1.0, 1.0)


def interval(values, **given):
    """The ends of the bootstrap's 95 % interval of one figure an image, (n,)."""
    low, high = np.percentile(resampled_means(np.asarray(values)[:, None], **given), (2.5, 97.5))
    return float(low), float(high)


def test_the_interval_is_that_of_the_normal_law_where_images_are_many():
    values = np.random.default_rng(1).uniform(size=400)
    low, high = interval(values, resamples=4000, seed=0)
    assert values.mean() - low == pytest.approx(1.96 * values.std() / 20, rel=0.06)
    assert high - values.mean() == pytest.approx(1.96 * values.std() / 20, rel=0.06)
    assert interval(values, resamples=300, seed=3) == interval(values, resamples=300, seed=3)
    assert interval(values, resamples=300, seed=3) != interval(values, resamples=300, seed=4)


def test_frames_of_one_sequence_are_one_witness():
    random = np.random.default_rng(0)
    per_sequence = random.uniform(size=12)
    frames, groups = np.repeat(per_sequence, 30), [f"s{number}" for number in range(12) for _ in range(30)]
    low, high = interval(frames, groups=groups, resamples=500, seed=2)
    assert (low, high) == pytest.approx(interval(per_sequence, resamples=500, seed=2))
    alone_low, alone_high = interval(frames, resamples=500, seed=2)
    assert high - low > 4 * (alone_high - alone_low), "as if 360 frames had been drawn from as many patients"
    assert count_sequences(groups) == 12


def test_a_frame_of_unknown_sequence_stands_for_itself_and_a_single_sequence_says_nothing_of_others():
    values = np.random.default_rng(1).uniform(size=9)
    assert interval(values, groups=[None] * 9, resamples=200) == interval(values, resamples=200)
    assert interval(values, groups=["one"] * 9, resamples=200) == interval(values, resamples=200)
    mixed = ["a", None, "a", None, "b", "b", None, "a", None]
    assert count_sequences(mixed) == 6
    assert count_sequences([None] * 9) is None
    means = resampled_means(np.ones((9, 2)), groups=mixed, resamples=50)
    assert np.allclose(means, 1), "a mean over the images drawn, however long their sequences"


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=LEAST_GROUPS, max_size=16))
def test_the_interval_lies_within_the_values(values):
    figures = summary(values, resamples=100)
    assert min(values) - 1e-12 <= figures["low"] <= figures["high"] <= max(values) + 1e-12


def test_few_images_or_sequences_have_no_interval():
    values = np.linspace(0, 1, 30)
    assert set(summary(values[: LEAST_GROUPS - 1], resamples=100)) == {"mean"}
    assert set(summary(values[:LEAST_GROUPS], resamples=100)) == {"mean", "low", "high"}
    few = [str(number % (LEAST_GROUPS - 1)) for number in range(30)]
    assert summary(values, groups=few, resamples=100) == {"mean": 0.5}
    enough = [str(number % LEAST_GROUPS) for number in range(30)]
    figures = summary(values, groups=enough, resamples=100)
    assert (figures["low"], figures["high"]) == interval(values, groups=enough, resamples=100)


def test_no_images_have_no_interval():
    with pytest.raises(ValueError, match="at least one image"):
        summary([], resamples=100)


def test_an_evaluation_equals_a_computation_by_hand(tmp_path):
    run = small_run(tmp_path)
    metrics = evaluate(run)
    deploy = InferenceModel(load_student(run), image_size=run.recipe.image_size).eval()
    for name, samples in run.splits.test.items():
        by_hand = []
        for sample in samples:
            found, truth = deploy.predict(sample.read_image())[0] >= 0.5, sample.read_mask() == 1
            by_hand.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
        assert metrics["datasets"][name]["images"] == len(samples)
        assert metrics["datasets"][name]["dice"]["mean"] == pytest.approx(np.mean(by_hand))
        lines = [line for line in read_predictions(run.folder / "predictions.csv") if line.dataset == name]
        assert [line.dice for line in lines] == by_hand
        assert [(line.stem, line.key) for line in lines] == [(sample.stem, sample.key) for sample in samples]
    assert 0.3 < metrics["datasets"]["left"]["dice"]["mean"] < 1
    assert "per image at threshold 0.5, at the mask's own size" in metrics["convention"]
    assert json.loads((run.folder / "metrics.json").read_text()) == metrics


def test_an_evaluation_returns_at_once_until_the_weights_change(tmp_path, monkeypatch):
    run = small_run(tmp_path)
    metrics = evaluate(run)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "score_set", None)
        assert evaluate(run) == metrics
    student = load_student(run)
    torch.nn.init.constant_(student.head.bias, 100.0)
    save_file(student.state_dict(), run.weights)
    assert evaluate(run)["datasets"]["left"]["dice"] != metrics["datasets"]["left"]["dice"]


def test_a_perfect_predictor_scores_one_and_its_opposite_zero(tmp_path):
    sample = small_run(tmp_path).splits.test["right"][0]
    truth = sample.read_mask()[None].astype(np.float32)
    assert [(s.dice, s.iou) for s in score(lambda sample: truth, [sample], shown=False)] == [(1.0, 1.0)]
    assert [(s.dice, s.iou) for s in score(lambda sample: 1 - truth, [sample], shown=False)] == [(0.0, 0.0)]


def test_two_processes_score_what_one_does(tmp_path, monkeypatch):
    run = small_run(tmp_path)
    samples = run.splits.test["left"]
    predictor = partial(predict_image, InferenceModel(load_student(run), image_size=run.recipe.image_size).eval())
    shares = []
    monkeypatch.setattr("accelerate.utils.gather_object", lambda share: shares.append(share) or share)
    for rank in (1, 0):
        list(score(predictor, samples, accelerator=SimpleNamespace(process_index=rank, num_processes=2)))
    monkeypatch.setattr("accelerate.utils.gather_object", lambda share: shares[0] + shares[1])
    both = list(score(predictor, samples, accelerator=SimpleNamespace(process_index=0, num_processes=2)))
    assert sorted(len(share) for share in shares[:2]) == [1, 2]
    assert both == list(score(predictor, samples))


def test_validation_is_the_mean_dice_and_leaves_the_student_as_it_was(tmp_path):
    run = small_run(tmp_path)
    student = load_student(run)
    student.train()
    student.encoder.eval()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    found = validate(student, run)["dice"]
    assert student.training
    assert not student.encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    predictor = partial(predict_image, InferenceModel(student, image_size=run.recipe.image_size).eval())
    assert found == pytest.approx(np.mean([figures.dice for figures in score(predictor, run.splits.val)]))


def test_multiply_accumulates_equal_a_count_by_hand(tmp_path):
    student = load_student(small_run(tmp_path))
    counts = []

    def add(module, inputs, output):
        weights = module.weight.shape[2] * module.weight.shape[3] * module.in_channels * module.out_channels
        pixels = inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output
        counts.append(weights * pixels.shape[2] * pixels.shape[3])

    for module in student.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(add)
    figures = cost(student, image_size=32)
    assert figures["macs"] == sum(counts)
    assert figures["parameters"] == sum(parameter.numel() for parameter in student.parameters())


def test_nothing_to_evaluate_is_said(tmp_path):
    run = small_run(tmp_path)
    run.weights.unlink()
    gone = r"discs-unet-\w+ was complete, but checkpoints/best.safetensors has been removed since; .* delete train.json"
    for verb in (train, evaluate):
        with pytest.raises(FileNotFoundError, match=gone):
            verb(run)
    run.trained.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"training in .*discs-unet-\w+ has not begun; type distill train .* first"
    ):
        evaluate(run)
    run.splits.test.clear()
    with pytest.raises(ValueError, match=r"no test images to evaluate on; add a test\.csv to the split"):
        evaluate(run)
