"""Students that answer nonsense, or whose name is none: refused in a sentence, never "nothing found"."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from published import write_disc, write_student
from safetensors.torch import load_file, save_file

import students
from distill.inference.images import ImagePredictor, Options
from distill.inference.inputs import find_inputs
from distill.inference.model import InferenceModel
from distill.inference.segmenter import Segmenter, open_segmenter, require_probability
from distill.inference.thresholds import Thresholds
from distill.run import main


def write_onnx(path, *, value=0.25, shape=("n", 1, "h", "w"), **metadata):
    """An ONNX file of a published one's form, whose probability is a constant at every pixel."""
    node, info, kinds = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto
    nodes = [
        node("Cast", ["image"], ["levels"], to=kinds.FLOAT),
        node("ReduceMean", ["levels"], ["grey"], axes=[3], keepdims=1),
        node("Transpose", ["grey"], ["plane"], perm=[0, 3, 1, 2]),
        node("Mul", ["plane", "zero"], ["nothing"]),
        node("Add", ["nothing", "value"], ["probability"]),
    ]
    if shape[2] == 1:
        nodes[1] = node("ReduceMean", ["levels"], ["grey"], axes=[1, 2, 3], keepdims=1)
    image, probability = info("image", kinds.UINT8, ["n", "h", "w", 3]), info("probability", kinds.FLOAT, shape)
    constants = [
        onnx.numpy_helper.from_array(np.array(v, np.float32), name) for name, v in (("zero", 0), ("value", value))
    ]
    graph = onnx.helper.make_graph(nodes, "constant", [image], [probability], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, {"classes": "1", "threshold": "0.3", **metadata})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("damage", ["nan weights", "nan bias", "std 0"])
def test_a_damaged_folder_is_refused_by_predict_and_demo(tmp_path, damage, capsys):
    folder = write_student(tmp_path / "student")
    write_disc(tmp_path / "images" / "disc.png", 0)
    tensors = load_file(folder / "model.safetensors")
    if damage == "std 0":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "std": [0, 0, 0]}))
    else:
        name = next(name for name in tensors if name.endswith("weight" if "weight" in damage else "bias"))
        tensors[name] = torch.full_like(tensors[name], torch.nan)
        save_file(tensors, folder / "model.safetensors")
    for words in (["predict", f"images={tmp_path / 'images'}", f"out={tmp_path / 'out'}"], ["demo", "port=0"]):
        assert main([*words, f"student={folder}"]) == 1
        assert "with a finding" not in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            {"value": np.nan},
            r"expected probabilities in \[0, 1\] of .*odd\.onnx, got values from nan to nan; it is damaged",
        ),
        ({"value": np.inf}, r"expected probabilities in \[0, 1\]"),
        ({"value": 1.5}, r"got values from 1\.5 to 1\.5"),
        ({"shape": ("n", 1, 1, 1)}, r"expected probabilities of shape \(1, 48, 64\) of .*, got \(1, 1, 1\)"),
        ({"threshold": "5"}, r"says threshold=5, but expected a number over 0 and up to 1; publish the student again"),
        ({"threshold": "nan"}, r"says threshold=nan, but expected a number over 0"),
        ({"threshold": "0"}, r"says threshold=0, but expected a number over 0"),
        ({"threshold": "high"}, r"says threshold=high, but expected"),
        ({"classes": "1000000000"}, r"says classes=1000000000, but expected a whole number from 1 up to 254"),
        ({"classes": "-1"}, r"says classes=-1, but expected a whole number from 1"),
        ({"classes": "1.5"}, r"says classes=1\.5, but expected a whole number"),
        ({"classes": "3"}, r"says classes=3, but its output has 1"),
    ],
)
def test_an_onnx_file_that_answers_nonsense_or_says_it_is_refused(tmp_path, made, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_segmenter(write_onnx(tmp_path / "odd.onnx", **made))


def test_an_onnx_file_of_the_right_form_is_taken(tmp_path):
    segmenter = open_segmenter(write_onnx(tmp_path / "model.onnx", image_size="352"))
    assert (segmenter.classes, segmenter.thresholds) == (1, Thresholds(0.3, 0.3))


def test_a_threshold_in_the_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"threshold.*5"):
        open_segmenter(write_student(tmp_path / "student", threshold=5.0))


def test_an_answer_is_checked_for_every_image(tmp_path):
    """One that is well on the first image and not on another."""

    def run(image):
        return np.full((1, *image.shape[:2]), np.nan if image.shape[0] == 80 else 0.0, np.float32)

    write_disc(tmp_path / "images" / "a.png", 0)
    write_disc(tmp_path / "images" / "b.png", 1, (80, 51))
    predictor = ImagePredictor(
        Segmenter("s", "d", 1, Thresholds(), "here", run), Options(Thresholds()), out=tmp_path / "out"
    )
    first, second = (predictor(one) for one in find_inputs(str(tmp_path / "images"), out=tmp_path / "out")[0])
    assert not first.failure
    assert (
        "b.png cannot be segmented (expected probabilities in [0, 1] of s, got values from nan to nan" in second.failure
    )
    assert not (tmp_path / "out" / "masks" / "b.png").exists()


def test_a_probability_may_leave_its_range_by_rounding_only():
    require_probability(np.array([[[-1e-4, 1.0005]]], np.float32), (1, 1, 2), what="s")
    with pytest.raises(ValueError, match=r"got values from -0\.01 to 1"):
        require_probability(np.array([[[-0.01, 1.0]]], np.float32), (1, 1, 2), what="s")


def test_a_student_whose_logits_are_of_another_size_is_refused(monkeypatch):
    student = students.create("unet", width=4)
    model = InferenceModel(student, image_size=32)
    monkeypatch.setattr(student, "forward", lambda images: torch.zeros(len(images), 1, 1, 1))
    with pytest.raises(ValueError, match=r"expected logits of shape \(1, 32, 32\) of UNet, got \(1, 1, 1\)"):
        model.predict(np.zeros((20, 30, 3), np.uint8))


@pytest.mark.parametrize(
    "place", ["./student", "../student", "runs/polyps", "someone/model.safetensors", "runs/a/student", "x y/z"]
)
def test_a_mistyped_place_does_not_ask_the_hub(tmp_path, monkeypatch, place):
    def ask(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", ask)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for opened in (open_segmenter, students.load):
        with pytest.raises(FileNotFoundError, match=r"no published student at .*: no such folder, and neither"):
            opened(place)
