"""Families of transformers, small and random: each gives what the library's own call gives, at two sizes."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from small_teachers import named_in_readme, random_pixels, randomise
from transformers import AutoModel
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

import teachers

VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
DINO = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 70, "patch_size": 14}
SWIN = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4, "image_size": 128}
STAGES = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
HGNET = {
    "embedding_size": 8,
    "stem_channels": [3, 8, 8],
    "hidden_sizes": [16, 24, 32, 48],
    "stage_in_channels": [8, 16, 24, 32],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 24, 32, 48],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [2, 2, 2, 2],
    "depths": [1, 1, 1, 1],
}
SIXTEEN = {**VIT, "patch_size": 16, "image_size": 96}


def tokens(network, pixels, *, rows, **call):
    """The patch tokens of the last hidden state as a map."""
    last = network(pixels, **call).last_hidden_state
    return last[:, last.shape[1] - rows * rows :].transpose(1, 2).unflatten(2, (rows, rows))


def plain(network, pixels, rows, folder):
    return {2: tokens(network, pixels, rows=rows)}


def resized(network, pixels, rows, folder):
    return {2: tokens(network, pixels, rows=rows, interpolate_pos_encoding=True)}


def backbone(network, pixels, rows, folder):
    """Every feature map of the library's backbone of the same weights."""
    count = len(getattr(network.config, "depths", [0] * 3))
    first = len(network.config.stage_names) - count
    kind = MODEL_FOR_BACKBONE_MAPPING[type(network.config)]
    whole = kind.from_pretrained(folder, out_indices=[first + level for level in range(count)]).eval()
    return dict(enumerate(whole(pixels).feature_maps))


def last_stage(network, pixels, rows, folder):
    return {3: network(pixels).last_hidden_state}


def convnext(network, pixels, rows, folder):
    states = network(pixels, output_hidden_states=True)
    return {1: states.hidden_states[2], 3: tokens(network, pixels, rows=rows)}


def swin(network, pixels, rows, folder):
    call = {"output_hidden_states_before_downsampling": True, "always_partition": True, "output_hidden_states": True}
    states = network(pixels, **call).reshaped_hidden_states
    return {0: states[1], 2: states[3], 3: tokens(network, pixels, rows=rows, always_partition=True)}


def radio(network, pixels, rows, folder):
    return {2: network(pixels).features.transpose(1, 2).unflatten(2, (rows, rows))}


def naflex(network, pixels, rows, folder):
    from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

    patches = torch.stack([convert_image_to_patches(image, 16) for image in pixels])
    shapes = torch.tensor([[rows, rows]] * len(pixels))
    call = {"pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.int64), "spatial_shapes": shapes}
    return {2: tokens(network, patches, rows=rows, **call)}


def unshuffled(network, pixels, rows, folder):
    network.config.mask_ratio = 0.0
    order = torch.arange(rows * rows).float().expand(len(pixels), -1)
    return {2: tokens(network, pixels, rows=rows, noise=order, interpolate_pos_encoding=True)}


# family: configuration, its settings, sizes, the library's own call, whether tokens have a final norm
FAMILIES = {
    "DINOv2": ("Dinov2Config", DINO, (70, 98), plain, True),
    "DINOv2's backbone": ("Dinov2Config", DINO, (70, 98), backbone, True),
    "DINOv2 with registers": ("Dinov2WithRegistersConfig", {**DINO, "num_register_tokens": 4}, (70, 98), plain, True),
    "DINOv3": ("DINOv3ViTConfig", {**SIXTEEN, "num_register_tokens": 4}, (96, 128), backbone, True),
    "DINOv3 ConvNeXt": ("DINOv3ConvNextConfig", {**STAGES, "image_size": 96}, (96, 128), convnext, False),
    "ViT": ("ViTConfig", SIXTEEN, (96, 128), resized, True),
    "BEiT": ("BeitConfig", {**SIXTEEN, "use_relative_position_bias": True}, (96, 128), backbone, False),
    "MAE": ("ViTMAEConfig", SIXTEEN, (96, 128), unshuffled, True),
    "CLIP": ("CLIPVisionConfig", SIXTEEN, (96, 128), resized, False),
    "SigLIP": ("SiglipVisionConfig", SIXTEEN, (96, 128), resized, True),
    "SigLIP 2": ("Siglip2VisionConfig", {**VIT, "patch_size": 16, "num_patches": 36}, (96, 128), naflex, True),
    "Swin": ("SwinConfig", SWIN, (128, 256), swin, False),
    "Swin v2": ("Swinv2Config", SWIN, (128, 256), backbone, False),
    "I-JEPA": ("IJepaConfig", SIXTEEN, (96, 128), resized, True),
    "AIMv2": ("Aimv2VisionConfig", {**SIXTEEN, "is_native": True}, (96, 128), plain, True),
    "RADIO": ("RadioConfig", {**DINO, "patch_size": 16, "max_img_size": 256}, (96, 128), radio, False),
    "TIPSv2": ("Tipsv2VisionConfig", DINO, (70, 98), plain, True),
    "PVTv2": ("PvtV2Config", {**STAGES, "num_attention_heads": [1, 2, 2, 4]}, (96, 128), backbone, False),
    "HGNet v2": ("HGNetV2Config", HGNET, (96, 128), backbone, False),
    "ConvNeXt v2": ("ConvNextV2Config", STAGES, (96, 128), last_stage, False),
}  # fmt: skip
STATISTICS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


def written(folder, family):
    """The family's network, saved and loaded by the library."""
    name, settings, *_ = FAMILIES[family]
    if not hasattr(transformers, name):
        pytest.skip(f"the installed transformers has no {name}")
    torch.manual_seed(0)
    randomise(AutoModel.from_config(getattr(transformers, name)(**settings)), seed=1).save_pretrained(folder)
    return AutoModel.from_pretrained(folder).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_what_the_library_gives_at_two_sizes(family, tmp_path):
    _, _, sizes, call, normed = FAMILIES[family]
    network = written(tmp_path, family)
    kind = "stage" if hasattr(network.config, "depths") else "block"
    for size in sizes:
        pixels = random_pixels(size)
        rows = size // (32 if kind == "stage" else network.config.patch_size)
        with torch.inference_mode():
            expected = call(network, pixels, rows, tmp_path)
        every = tuple(range(max(expected) + 1))
        teacher = teachers.load("transformers", weights=tmp_path, levels=every, image_size=size, **STATISTICS)
        assert (teacher.network.norm is not None) == normed
        found = teacher.embed(pixels)
        for level, value in expected.items():
            assert value.std() > 0.01
            assert (found[f"{kind}{level}"] - value).abs().max() <= 1e-5 * max(1, float(value.abs().max())), level
    shallow = teachers.load("transformers", weights=tmp_path, levels=(1,), image_size=size, **STATISTICS)
    (entry,) = shallow.spec.maps
    assert (entry.name, entry.grid) == (f"{kind}1", (size // entry.stride,) * 2)
    assert torch.equal(shallow.embed(pixels)[entry.name], found[entry.name])  # nothing deeper runs


@pytest.mark.parametrize("family", ["CLIP", "SigLIP", "SigLIP 2", "TIPSv2"])
def test_the_vision_model_is_read_out_of_a_model_of_images_and_text(family, tmp_path):
    name, settings, (size, _), *_ = FAMILIES[family]
    kind = getattr(transformers, name.replace("Vision", ""), None)
    if kind is None:
        pytest.skip(f"the installed transformers has no {name}")
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    whole = AutoModel.from_config(kind(vision_config=settings, text_config=text))
    randomise(whole, seed=1).save_pretrained(tmp_path)
    vision = whole.vision_model.eval()
    pixels = torch.randn(2, 3, size, size)
    rows = size // settings["patch_size"]
    with torch.inference_mode():
        (expected,) = FAMILIES[family][3](vision, pixels, rows, tmp_path).values()
    found = teachers.load("transformers", weights=tmp_path, image_size=size, **STATISTICS).embed(pixels)["block2"]
    assert (found - expected).abs().max() <= 1e-5


def test_a_classifier_s_file_and_half_precision_are_read(tmp_path):
    config = transformers.ViTConfig(**SIXTEEN, num_labels=7)
    network = randomise(transformers.ViTForImageClassification(config), seed=1).eval().to(torch.bfloat16)
    network.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    teacher = teachers.load("transformers", weights=tmp_path, image_size=96)
    assert {parameter.dtype for parameter in teacher.network.parameters()} == {torch.float32}
    pixels = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        expected = tokens(network.float().vit, pixels, rows=6)
    assert (teacher.embed(pixels)["block2"] - expected).abs().max() <= 1e-5
    state = load_file(tmp_path / "model.safetensors")
    save_file({**state, "vit.intruder": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"holds unknown 1 tensor \(vit\.intruder\); give the matching file"):
        teachers.load("transformers", weights=tmp_path)


def test_tokens_before_the_final_norm_are_there_for_who_wants_them(tmp_path):
    network = written(tmp_path, "ViT")
    teacher = teachers.load("transformers", weights=tmp_path, levels=(0, 2), norm=False)
    pixels = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        states = network(pixels, output_hidden_states=True).hidden_states
    for name, state in (("block0", states[1]), ("block2", states[3])):
        expected = state[:, 1:].transpose(1, 2).unflatten(2, (6, 6))
        assert (teacher.embed(pixels)[name] - expected).abs().max() <= 1e-5
    assert teacher.identity["norm"] is False


def test_pixels_are_those_of_the_preprocessor_s_file_or_of_the_recipe(tmp_path):
    written(tmp_path, "I-JEPA")
    with pytest.raises(
        ValueError, match=r"no preprocessor_config\.json beside .* says which pixels a ijepa .*mean and"
    ):
        teachers.load("transformers", weights=tmp_path)
    stated = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2], "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    teacher = teachers.load("transformers", weights=tmp_path, std=(0.5, 0.5, 0.5))
    assert teacher.preprocessing.mean == (102.0, 127.5, 153.0)
    assert (teacher.preprocessing.std, teacher.preprocessing.interpolation) == ((127.5, 127.5, 127.5), "bicubic")
    assert teacher.preprocessing.size == 96


def test_a_network_of_one_size_says_so(tmp_path):
    config = transformers.Aimv2VisionConfig(**SIXTEEN)
    randomise(AutoModel.from_config(config), seed=1).save_pretrained(tmp_path)
    assert teachers.load("transformers", weights=tmp_path, **STATISTICS).spec["block2"].grid == (6, 6)
    with pytest.raises(ValueError, match=r"aimv2_vision_model of these weights takes no images of 128 pixels: .*leave"):
        teachers.load("transformers", weights=tmp_path, image_size=128, **STATISTICS)


def test_what_is_no_vision_model_is_refused(tmp_path):
    for kind in ("bert", "unheard-of"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
        with pytest.raises(
            ValueError, match=rf"a model of type '{kind}', but teacher 'transformers' needs a vision mod"
        ):
            teachers.load("transformers", weights=tmp_path)


def test_the_readme_names_every_family_that_is_tested_here():
    named_in_readme(FAMILIES, "transformers")


def test_a_vision_model_without_an_automodel_is_refused(tmp_path):
    config = transformers.BlipConfig(vision_config=SIXTEEN, text_config={"hidden_size": 32, "num_hidden_layers": 1})
    config.save_pretrained(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"a model of type 'blip', but teacher 'transformers' needs a vision model that"
    ):
        teachers.load("transformers", weights=tmp_path)


def test_what_the_preprocessor_s_file_asks_for_is_done_or_refused(tmp_path):
    written(tmp_path, "ViT")
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"do_normalize": False, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2]}))
    pixels = teachers.load("transformers", weights=tmp_path).preprocessing
    assert (pixels.mean, pixels.std, pixels.interpolation) == ((0, 0, 0), (255, 255, 255), "bilinear")
    file.write_text(json.dumps({"resample": 1}))
    with pytest.raises(
        ValueError, match=r"expected resample in .* to be 2 \(bilinear\) or 3 \(bicubic\), got 1; write"
    ):
        teachers.load("transformers", weights=tmp_path)
    file.write_text(json.dumps({"rescale_factor": 1 / 255, "do_rescale": True}))
    assert teachers.load("transformers", weights=tmp_path).preprocessing.mean == (127.5,) * 3
    for stated, factor in (({"rescale_factor": 1 / 127.5}, r"0\.0078"), ({"do_rescale": False}, "1;")):
        file.write_text(json.dumps(stated))
        with pytest.raises(
            ValueError, match=rf"to scale pixels to \[0, 1\] .*got a factor of {factor}.*give mean and std"
        ):
            teachers.load("transformers", weights=tmp_path)
        assert teachers.load("transformers", weights=tmp_path, **STATISTICS).preprocessing.std == (51, 76.5, 102)
