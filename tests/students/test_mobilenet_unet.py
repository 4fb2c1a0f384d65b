"""The student on MobileNetV2: its first stages alone, other pixels and padding, and batch norm that came folded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from small_run import recipe_of, run_of

from distill.inference.model import InferenceModel
from distill.inference.onnx_file import export_onnx, open_onnx
from distill.training.plan import plan_training
from distill.training.state import build_state, example_images
from students import MEAN, STD, create

CORAL = {"backbone": "mobilenetv2_100", "padding": "same", "pixel_range": [-1, 1]}
SMALL = "test_efficientnet"


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def normalised(rgb):
    return (rgb - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


@pytest.fixture
def coral(shared):
    return shared / "weights" / "mobilenetv2_100.coral.safetensors"


@pytest.fixture
def small(tmp_path):
    """Weights whose batch norms are folded: those of a network that has seen nothing, with biases."""
    torch.manual_seed(1)
    weights = timm.create_model(SMALL).state_dict()
    weights |= {name: torch.randn_like(value) for name, value in weights.items() if name.endswith(".bias")}
    save_file(weights, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.mark.parametrize(
    ("stages", "width", "strides", "encoder", "whole"),
    [
        (3, 8, (2, 4, 8), 55_488, 92_121),
        (4, 8, (2, 4, 8, 16), 239_360, 377_753),
        (5, 8, (2, 4, 8, 16), 542_528, 699_353),
        (7, 8, (2, 4, 8, 16, 32), 1_811_712, 2_226_969),
        (None, 8, (2, 4, 8, 16, 32), 1_811_712, 2_226_969),
    ],
)
def test_so_many_stages_have_so_many_parameters(stages, width, strides, encoder, whole):
    student = create("timm_unet", width=width, encoder_stages=stages, **CORAL)
    assert (student.strides, count(student.encoder), count(student)) == (strides, encoder, whole)


def test_the_real_mobilenet_in_the_encoder_sees_its_own_pixels_and_runs_as_timm_runs_it(coral):
    official = timm.create_model("mobilenetv2_100", pad_type="same").eval()
    official.load_state_dict(load_file(coral), strict=True)
    rgb = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        x, expected = official.bn1(official.conv_stem((rgb - 0.5) / 0.5)), []
        for stage in official.blocks:
            x = stage(x)
            expected.append(x)
    for stages, ends in [(None, (0, 1, 2, 4, 6)), (4, (0, 1, 2, 3)), (5, (0, 1, 2, 4))]:
        student = create("timm_unet", width=2, encoder_stages=stages, **CORAL).eval()
        student.load_encoder(coral)
        with torch.no_grad():
            maps = student.features(normalised(rgb))
        assert len(maps) == len(ends)
        for value, end in zip(maps, ends, strict=True):  # up to the border: pixels are changed before any padding
            assert (value - expected[end]).abs().max() < 1e-4
    other = create("timm_unet", width=2, backbone="mobilenetv2_100").eval()
    other.load_encoder(coral)
    with torch.no_grad():
        assert (other.features(normalised(rgb))[-1] - expected[-1]).abs().max() > 1


def test_unfolded_norms_leave_the_maps_and_make_training_see_nearly_the_same(coral):
    student = create("timm_unet", width=2, encoder_stages=4, **CORAL).eval()
    student.load_encoder(coral)
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(6, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(small, (64, 64), mode="bicubic")
    with torch.no_grad():
        before, raw = student.features(images), student.encoder.train()(images)
        student.encoder.load(coral)  # whose statistics the run in training mode has moved
        student.calibrate(iter(images.split(4)))
        trained = [value.clone() for value in student.encoder.train()(images)]
        student.encoder.load(coral)
        student.calibrate(iter(images.split(4)))
        after = student.eval().features(images)
    scale = before[-1].abs().max()
    assert all((value - wanted).abs().max() < 1e-4 * scale for value, wanted in zip(after, before, strict=True))
    assert (trained[-1] - before[-1]).abs().max() < 1e-3 * scale
    assert (raw[-1] - before[-1]).abs().max() > 0.1 * scale
    norm = student.encoder.network.bn1
    stem = student.encoder.network.conv_stem(images * student.encoder.scale + student.encoder.shift)
    assert torch.allclose(norm.running_mean, stem.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, stem.var((0, 2, 3), unbiased=False), rtol=1e-3)


def unread():
    pytest.fail("no image is needed")
    yield


def test_no_image_is_read_where_no_norm_is_folded(tmp_path, small):
    for student in (create("unet", width=2), create("timm_unet", width=2, backbone=SMALL)):
        student.calibrate(unread())
    student = create("timm_unet", width=2, backbone=SMALL)
    student.load_encoder(small)
    student.calibrate(torch.randn(2, 4, 3, 64, 64))
    student.export_encoder(tmp_path)
    student.load_encoder(tmp_path / "encoder.safetensors")
    student.calibrate(unread())


def test_a_training_gives_folded_norms_the_statistics_of_its_images_before_the_first_step(tmp_path, small):
    own = {"name": "timm_unet", "width": 2, "options": {"backbone": SMALL}}
    states = {}
    for encoder in (None, str(small)):
        recipe = recipe_of()
        recipe = replace(recipe, student=replace(recipe.student, encoder=encoder, **own))
        states[encoder] = build_state(plan_training(run_of(recipe, tmp_path)))
    fresh, loaded = (states[encoder].student.eval() for encoder in states)
    assert not fresh.encoder.network.bn1.running_mean.any()
    assert loaded.encoder.network.bn1.running_mean.any()
    images = torch.cat(list(example_images(states[None].dataset)))
    assert len(images) == len(states[None].dataset)
    folded = create("timm_unet", width=2, backbone=SMALL).eval()
    folded.load_encoder(small)
    with torch.no_grad():
        maps, expected = loaded.features(images), folded.features(images)
    assert all(
        (value - wanted).abs().max() < 1e-4 * wanted.abs().max() for value, wanted in zip(maps, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_stages": 8}, r"'mobilenetv2_100' has 7 stages that can be cut off, got encoder_stages=8"),
        ({"encoder_stages": 0}, r"has 7 stages that can be cut off, got encoder_stages=0"),
        (
            {"backbone": "resnet18", "encoder_stages": 2},
            r"'resnet18' has 0 stages .* for an EfficientNet or a MobileNet",
        ),
        ({"encoder_stages": 1}, r"a student needs a pyramid of several strides"),
        ({"padding": "valid"}, r"padding of a backbone is 'valid', but must be same, or null"),
        ({"backbone": "resnet18", "padding": "same"}, r"'resnet18' has no choice of padding, got padding=same"),
        (
            {"pixel_range": [1, -1]},
            r"pixel_range is \[1, -1\], but must be the values of black and white, as \[-1, 1\]",
        ),
    ],
)
def test_what_a_backbone_does_not_have_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create("timm_unet", width=2, **{"backbone": "mobilenetv2_100", **options})


def test_the_onnx_file_of_the_first_stages_equals_torch_at_any_size(tmp_path):
    torch.manual_seed(0)
    deploy = InferenceModel(create("timm_unet", width=2, encoder_stages=3, **CORAL), image_size=48).eval()
    export_onnx(deploy, tmp_path / "model.onnx", metadata={})
    images = np.random.default_rng(0).integers(0, 256, (2, 33, 71, 3), dtype=np.uint8)
    expected = np.stack([deploy.predict(image) for image in images])
    assert np.abs(open_onnx(tmp_path / "model.onnx")(images) - expected).max() < 1e-4
