"""The pyramids of SAM 3 and EdgeTAM as transformers computes them; those of SAM 2 are in test_sam2.py."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file
from small_teachers import random_pixels, write_edgetam, write_sam2, write_sam3

import teachers

WRITERS = {"Sam2VisionModel": write_sam2, "Sam3VisionModel": write_sam3, "EdgeTamVisionModel": write_edgetam}
SIZES = {"Sam2VisionModel": (128, 96), "Sam3VisionModel": (112, 168), "EdgeTamVisionModel": (128, 96)}
STRIDES = {"Sam2VisionModel": [4, 8, 16], "Sam3VisionModel": [3.5, 7, 14, 28], "EdgeTamVisionModel": [4, 8, 16]}


def library(kind, folder, size):
    """The library's own network at a size."""
    network = getattr(transformers, kind)
    config = network.config_class.from_pretrained(folder)
    if kind == "Sam3VisionModel":
        config.backbone_config.image_size = size
    return network.from_pretrained(folder, config=config).eval()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_pyramid_equals_the_library_s_at_two_sizes(kind, tmp_path):
    WRITERS[kind](tmp_path)
    for size in SIZES[kind]:
        teacher = teachers.load("fpn", weights=tmp_path, image_size=size)
        pixels = random_pixels(size)
        with torch.inference_mode():
            expected = library(kind, tmp_path, size)(pixels).fpn_hidden_states
        whole = {
            f"fpn{i}": (stride, value) for i, (stride, value) in enumerate(zip(STRIDES[kind], expected, strict=True))
        }
        kept = {name: entry for name, entry in whole.items() if entry[0] == int(entry[0])}  # SAM 3: not 3.5 pixels
        assert teacher.spec.names == tuple(kept)
        found = teacher.embed(pixels)
        for name, (stride, value) in kept.items():
            assert teacher.spec[name].stride == stride
            assert teacher.spec[name].grid == tuple(value.shape[-2:])
            assert value.std() > 0.01
            assert (found[name] - value).abs().max() <= 1e-5 * max(1, float(value.abs().max()))


def test_the_vision_encoder_of_sam_3_is_read_out_of_its_detector_and_its_video_model(tmp_path):
    write_sam3(tmp_path / "vision")
    state = transformers.Sam3VisionModel.from_pretrained(tmp_path / "vision")
    pixels = torch.randn(1, 3, 112, 112)
    expected = teachers.load("fpn", weights=tmp_path / "vision").embed(pixels)
    vision = json.loads((tmp_path / "vision" / "config.json").read_text())
    for kind, prefix, config in (
        ("sam3", "vision_encoder.", {"vision_config": vision}),
        ("sam3_video", "detector_model.vision_encoder.", {"detector_config": {"vision_config": vision}}),
    ):
        folder = tmp_path / kind
        folder.mkdir()
        named = {prefix + name: value for name, value in state.state_dict().items()}
        save_file({**named, "detr_decoder.query": torch.zeros(2)}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": kind, **config}))
        teacher = teachers.load("fpn", weights=folder)
        assert teacher.licence == "SAM License"
        assert teacher.preprocessing.mean == (127.5, 127.5, 127.5)
        for name, value in teacher.embed(pixels).items():
            assert torch.equal(value, expected[name])


def test_sam2_is_another_name_of_fpn_with_the_same_identity(tmp_path):
    arguments = write_sam2(tmp_path)
    by_fpn, by_sam2 = (teachers.load(name, **arguments) for name in ("fpn", "sam2"))
    assert by_fpn.identity == by_sam2.identity
    assert by_sam2.identity["teacher"] == "sam2"


def test_what_does_not_fit_is_told(tmp_path):
    write_sam3(tmp_path / "sam3")
    for change, message in [
        ({"strides": (4,)}, r"SAM 3's pyramid has no map of stride 4; choose from 7, 14, 28"),
        ({"levels": (1,)}, r"levels choose stages of SAM 2's trunk, but these are weights of SAM 3, got levels=\[1\]"),
        ({"image_size": 100}, r"multiple of 28, so that SAM 3's windows cover .*, got 100; choose 84 or 112"),
    ]:
        with pytest.raises(ValueError, match=message):
            teachers.load("fpn", weights=tmp_path / "sam3", **change)
    assert teachers.load("fpn", weights=tmp_path / "sam3", strides=(14,)).spec.names == ("fpn2",)
