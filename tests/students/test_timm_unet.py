"""The student on a timm backbone: which backbones it takes, and which weights."""

from __future__ import annotations

import os

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import students
from distill.inference.model import InferenceModel
from distill.inference.onnx_file import export_onnx, open_onnx
from students import MEAN, STD, create

SMALL = "test_efficientnet"


def build(backbone: str = SMALL) -> students.Student:
    torch.manual_seed(0)
    return create("timm_unet", width=2, backbone=backbone).eval()


def weights_of(backbone: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return timm.create_model(backbone).state_dict()


@pytest.mark.parametrize(
    ("backbone", "strides"),
    [
        ("test_convnext", (4, 8, 16, 32)),
        ("darknet17", (1, 2, 4, 8, 16, 32)),
        ("efficientvit_m0", (16, 32, 64)),
        ("swin_tiny_patch4_window7_224", (4, 8, 16, 32)),  # channels last, and of one size unless it is set otherwise
    ],
)
def test_any_pyramid_of_doubling_strides_will_do(backbone, strides):
    student, images = build(backbone), torch.randn(1, 3, 130, 90)
    assert student.strides == strides
    height, width = (side + -side % strides[-1] for side in (130, 90))
    assert [value.shape[1:] for value in student.features(images)] == [
        (channels, height // stride, width // stride)
        for channels, stride in zip(student.channels, strides, strict=True)
    ]
    assert student(images).shape == (1, 1, 130, 90)


def test_the_backbone_sees_pixels_in_its_own_statistics():
    student, rgb = build("test_convnext"), torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    maps, expected = student.features((rgb - mean) / std), student.encoder.network((rgb - 0.5) / 0.5)
    assert all((value - wanted).abs().max() < 1e-5 for value, wanted in zip(maps, expected, strict=True))
    assert all(name.startswith("network.") for name in student.encoder.state_dict())


@pytest.mark.parametrize("backbone", [SMALL, "test_convnext", "efficientvim_m1"])  # three ways of naming a pyramid's
def test_weights_of_the_whole_network_and_of_the_pyramid_give_the_same_maps(tmp_path, backbone):
    whole = timm.create_model(backbone).eval()
    whole.load_state_dict(weights_of(backbone))
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    first, second, images = build(backbone), build(backbone), torch.randn(1, 3, 128, 192)
    first.load_encoder(tmp_path / "whole.safetensors")
    save_file(first.encoder.network.state_dict(), tmp_path / "pyramid.safetensors")
    second.load_encoder(tmp_path / "pyramid.safetensors")
    assert all(map(torch.equal, first.features(images), second.features(images)))
    found = first.encoder.network(images)[-1]
    with torch.no_grad():
        expected = whole.forward_intermediates(images, intermediates_only=True)[-1]
    assert (found - expected).abs().max() < 1e-5


def test_old_pickles_load_without_the_count_of_batches(tmp_path):
    student, weights = build(), weights_of(SMALL)
    kept = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save({"state_dict": kept, "epoch": 3}, tmp_path / "old.pth")
    student.load_encoder(str(tmp_path / "old.pth"))
    loaded = student.encoder.network.state_dict()
    assert all(torch.equal(loaded[name], kept[name]) for name in loaded if name in kept)


def test_weights_of_another_network_are_refused_and_nothing_is_loaded(tmp_path):
    student, weights, path = build(), weights_of(SMALL), tmp_path / "weights.safetensors"
    before = {name: value.clone() for name, value in student.state_dict().items()}
    save_file({**weights, "conv_stem.weight": torch.zeros(4, 3, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"1 of 68 tensors .* conv_stem\.weight, expected \(24, 3, 3, 3\), got \(4,"):
        student.load_encoder(path)
    del weights["blocks.0.0.bn1.bias"], weights["blocks.0.0.bn1.weight"]
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"2 of 68 tensors are missing .* got none; .* student\.options\.backbone"):
        student.load_encoder(path)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


class Command:
    def __reduce__(self):
        return os.mkdir, ("opened",)


def test_a_file_that_holds_no_weights_is_refused_and_no_code_in_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = build()
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.pth; give a safetensors or \.pth file, or hub"):
        student.load_encoder(tmp_path / "none.pth")
    torch.save({"conv_stem.weight": Command()}, tmp_path / "bad.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    for name in ("bad.pth", "cut.safetensors"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read as weights: expected a safetensors file or"):
            student.load_encoder(tmp_path / name)
    assert not (tmp_path / "opened").exists()


def test_the_hub_gives_what_timm_publishes(tmp_path, monkeypatch):
    repository = tmp_path / f"models--timm--{SMALL}.r160_in1k"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    student = build()
    with pytest.raises(FileNotFoundError, match=rf"from the hub: .*`hf download timm/{SMALL}\.r160_in1k`"):
        student.load_encoder("hub")
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(weights_of(SMALL), repository / "snapshots" / ("0" * 40) / "model.safetensors")
    state = torch.get_rng_state()
    student.load_encoder("hub")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(student.encoder.network.conv_stem.weight, weights_of(SMALL)["conv_stem.weight"])
    with pytest.raises(ValueError, match=r"timm publishes no weights for 'darknet17'"):
        build("darknet17").load_encoder("hub")


def test_a_student_without_a_backbone_takes_no_weights():
    with pytest.raises(ValueError, match=r"student UNet has no backbone that takes .* use student\.name=timm_unet"):
        create("unet", width=2).load_encoder("hub")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("tf_efficientnet_b00", r"timm has no backbone 'tf_efficientnet_b00'; did you mean tf_efficientnet_b0"),
        (f"{SMALL}.r161", rf"timm has no backbone '{SMALL}\.r161'; did you mean {SMALL}\.r160_in1k\?"),
        ("/", r"timm has no backbone '/'; timm\.list_models\(\) lists them, such as tf_efficientnet_b0"),
        ("test_vit", r"has maps at stride 16, but a student needs a pyramid .* convolutional one such as"),
        ("test_coatnet", r"'test_coatnet' does not take images of any size: expected maps of .* for 64 x 96 pixels"),
    ],
)
def test_a_backbone_that_will_not_do_is_refused(backbone, message):
    with pytest.raises(ValueError, match=message):
        build(backbone)


def test_the_onnx_file_of_a_backbone_equals_torch_at_any_size(tmp_path):
    deploy = InferenceModel(build(), image_size=48).eval()
    export_onnx(deploy, tmp_path / "model.onnx", metadata={})
    run = open_onnx(tmp_path / "model.onnx")
    for size in [(2, 33, 71, 3), (1, 96, 96, 3)]:
        images = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        expected = np.stack([deploy.predict(image) for image in images])
        assert np.abs(run(images) - expected).max() < 1e-4


def test_the_real_efficientnet_in_the_encoder_runs_as_timm_runs_it(shared):
    file = shared / "weights" / "tf_efficientnet_b0.tracer.safetensors"
    official = timm.create_model("tf_efficientnet_b0", features_only=True, out_indices=(0, 1, 2, 3, 4)).eval()
    official.load_state_dict(load_file(file), strict=True)
    student, images = create("timm_unet", width=2).eval(), torch.randn(1, 3, 96, 128)
    student.load_encoder(file)
    with torch.no_grad():
        maps, expected = student.features(images), official(images)
    assert all((value - wanted).abs().max() <= 1e-5 for value, wanted in zip(maps, expected, strict=True))
    assert (student.strides, student.channels) == ((2, 4, 8, 16, 32), (16, 24, 40, 112, 320))
    assert sum(p.numel() for p in create("timm_unet", width=16).parameters()) == 4_747_309
