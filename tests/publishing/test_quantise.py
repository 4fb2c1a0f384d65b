"""model.int8.onnx: written where it is worth it, and otherwise said to be not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from small_run import disc_splits, small_run

import students
from distill.evaluation.evaluate import evaluate
from distill.inference.model import InferenceModel
from distill.inference.onnx_file import export_onnx, open_onnx
from distill.inference.thresholds import Thresholds
from distill.publishing import quantise as int8
from distill.publishing.publish import publish
from distill.publishing.quantise import compare_files, quantise
from distill.runs.weights import load_student

SLOW = [0.0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = small_run(tmp_path_factory.mktemp("int8"), int8=True, examples=0)
    evaluate(run)
    return run


def test_the_quantised_file_keeps_shapes_words_and_the_float_resizes_and_is_the_same_each_time(run, tmp_path):
    model = InferenceModel(load_student(run), image_size=32).eval()
    export_onnx(model, tmp_path / "model.onnx", metadata={"classes": "1"})
    for name in ("a.onnx", "b.onnx"):
        quantise(tmp_path / "model.onnx", tmp_path / name, run.splits.train)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    file = onnx.load(tmp_path / "a.onnx")
    assert {"classes": "1"}.items() <= {entry.key: entry.value for entry in file.metadata_props}.items()
    kernels = {entry.name: entry for entry in file.graph.initializer if len(entry.dims) == 4 and entry.dims[0] > 1}
    in_float = [name for name, entry in kernels.items() if entry.data_type != onnx.TensorProto.INT8]
    first = next(node for node in file.graph.node if node.op_type == "Conv")
    assert in_float == [first.input[1]] and len(kernels) > 5, "of all kernels the first alone, of pixels, is as it was"
    makers = {output: node.op_type for node in file.graph.node for output in node.output}
    resizes = [node for node in file.graph.node if node.op_type == "Resize"]
    assert resizes and all(makers.get(node.input[0]) != "DequantizeLinear" for node in resizes)
    image = run.splits.test["right"][1].read_image()[None]
    found, expected = (open_onnx(tmp_path / name, threads=1)(image) for name in ("a.onnx", "model.onnx"))
    assert found.shape == expected.shape
    assert 0 < np.abs(found - expected).max() < 0.1


def compared(run, monkeypatch, *, share, shift=0.0):
    """The verdict on a file that is the image's red, shifted, at a given share of the time."""
    monkeypatch.setattr(int8, "work_ratio", lambda timings, above, below: share)

    def segment(images, by=0.0):
        return np.stack([np.clip(image[None, ..., 0] / 255 + by, 0, 1) for image in images])

    return compare_files(
        segment, lambda images: segment(images, shift), val=run.splits.val, classes=1, thresholds=Thresholds()
    )


def test_a_file_that_is_faster_and_as_good_is_kept(run, monkeypatch):
    assert compared(run, monkeypatch, share=0.7).written


def test_a_file_that_is_no_faster_or_loses_dice_is_not(run, monkeypatch):
    slow, poor = compared(run, monkeypatch, share=0.97), compared(run, monkeypatch, share=0.5, shift=-0.5)
    assert not slow.written and slow.why.endswith("0.97 x its time; at most 0.95 x is worth a second file")
    assert not poor.written and poor.why.endswith("0.50 x its time; at most 0.5 percentage points may be lost")


def test_it_is_scored_at_the_threshold_at_which_it_is_served(run):
    def segment(images, by=0.0):  # over 0.5 everywhere
        return np.stack([0.6 + 0.4 * image[None, ..., 0] / 255 + by for image in images])

    at_half, at_chosen = (
        compare_files(
            segment,
            lambda images: segment(images, -0.05),
            val=run.splits.val,
            classes=1,
            thresholds=Thresholds(threshold),
        )
        for threshold in (0.5, 0.8)
    )
    assert at_half.dice == at_half.before
    assert at_chosen.dice != at_chosen.before


@pytest.mark.parametrize("share", [0.6, 1.4])
def test_publishing_writes_it_or_says_why_not(run, monkeypatch, share, tmp_path):
    monkeypatch.setattr(int8, "work_ratio", lambda timings, above, below: share)
    monkeypatch.setattr(int8, "LARGEST_LOSS", 1.0)
    fresh = replace(run, recipe=replace(run.recipe, publish=replace(run.recipe.publish, licence=f"share-{share}")))
    folder = publish(fresh)
    found = json.loads((fresh.folder / "metrics.json").read_text())["published"]["int8"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert found["written"] == (folder / "model.int8.onnx").is_file() == (share < 1)
    assert found["why"] in card
    assert ("asked for and not written" in card) == (share > 1)


def test_a_network_that_the_quantiser_refuses_is_published_without_the_file(run, monkeypatch):
    def refuse(*given):
        raise KeyError("no such operator")

    monkeypatch.setattr(int8, "quantise", refuse)
    fresh = replace(run, recipe=replace(run.recipe, publish=replace(run.recipe.publish, licence="refused")))
    folder = publish(fresh)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert not (folder / "model.int8.onnx").exists() and (folder / "model.onnx").is_file()
    assert "asked for and not written: ONNX Runtime cannot quantise this network (KeyError: 'no such operator')" in card


def test_the_first_convolution_depthwise_ones_and_gates_stay_in_float(tmp_path, capsys):
    network = students.create("timm_unet", width=2, backbone="test_efficientnet")
    model = InferenceModel(network, image_size=64).eval()
    export_onnx(model, tmp_path / "model.onnx", metadata={"classes": "1"})
    quantise(tmp_path / "model.onnx", tmp_path / "small.onnx", disc_splits().train)
    assert capsys.readouterr().out == "", "ONNX Runtime's quantiser prints"
    graph = onnx.load(tmp_path / "small.onnx").graph
    makers = {output: node for node in graph.node for output in node.output}

    def pooled(name):
        before = [one for one in makers[name].input if one in makers and makers[one].input] if name in makers else []
        return name in makers and (makers[name].op_type == "ReduceMean" or (before and all(map(pooled, before))))

    found = {}
    for number, node in enumerate(node for node in graph.node if node.op_type == "Conv"):
        groups = next((entry.i for entry in node.attribute if entry.name == "group"), 1)
        kind = "first" if number == 0 else "grouped" if groups > 1 else "gate" if pooled(node.input[0]) else "plain"
        found.setdefault(kind, set()).add(makers[node.input[1]].op_type if node.input[1] in makers else "float")
    assert found.pop("plain") == {"DequantizeLinear"} and found.keys() == {"first", "grouped", "gate"}
    assert set().union(*found.values()) == {"float"}, found
