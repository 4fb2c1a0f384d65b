"""Families of timm, small and random: each gives what timm's own call gives, at two sizes."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_teachers import named_in_readme, noise, random_pixels, randomise

import teachers

VIT = {"embed_dim": 64, "depth": 3, "num_heads": 2}
STAGES = {"depths": (1, 1, 2, 1)}
NEXT = {**STAGES, "dims": (16, 24, 32, 48)}
SWIN = {"embed_dim": 16, "num_heads": (1, 2, 2, 4), **STAGES}
HIERA = {"embed_dim": 16, "num_heads": 1, "stages": (1, 1, 2, 1)}
# family: name in timm, arguments that make it small, levels, two sizes, whether a final norm counts.
FAMILIES = {
    "ViT": ("vit_base_patch16_224", VIT, (1, 2), (96, 128), True),
    "DINOv2": ("vit_base_patch14_dinov2", VIT, (1, 2), (98, 126), True),
    "DINOv2 with registers": ("vit_base_patch14_reg4_dinov2", VIT, (0, 2), (98, 126), True),
    "DINOv3": ("vit_base_patch16_dinov3", VIT, (1, 2), (96, 128), True),
    "DINOv3 ConvNeXt": ("convnext_tiny.dinov3_lvd1689m", NEXT, (1, 3), (96, 128), False),
    "EVA": ("eva02_base_patch14_224", VIT, (1, 2), (98, 126), False),
    "PE-Spatial": ("vit_pe_spatial_base_patch16_512", VIT, (1, 2), (96, 128), False),
    "C-RADIO v3": ("vit_base_patch16_radio_v3", VIT, (1, 2), (96, 128), False),
    "C-RADIO v4": ("vit_so400m_patch16_radio_v4", VIT, (1, 2), (96, 128), False),
    "SigLIP 2": ("vit_base_patch16_siglip_224.v2_webli", VIT, (1, 2), (96, 128), True),
    "SigLIP 2 NaFlex": ("naflexvit_base_patch16_siglip", VIT, (1, 2), (96, 128), True),
    "TIPSv2": ("vit_base_patch14_reg1_tipsv2", VIT, (1, 2), (98, 126), True),
    "EUPE": ("vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", VIT, (1, 2), (96, 128), True),
    "C-RADIO v3 NaFlex": ("naflexvit_base_patch16_radio_v3", VIT, (1, 2), (96, 128), False),
    "Hiera": ("hiera_small_abswin_256", HIERA, (1, 3), (256, 128), False),
    "Swin": ("swin_tiny_patch4_window7_224", SWIN, (1, 3), (224, 448), True),
    "Swin v2": ("swinv2_tiny_window8_256", SWIN, (1, 3), (256, 128), True),
    "ConvNeXt": ("convnext_atto", NEXT, (1, 3), (96, 128), False),
    "ConvNeXt v2": ("convnextv2_atto", NEXT, (1, 3), (96, 128), False),
    "CaFormer": ("caformer_s18", {}, (1, 3), (64, 96), False),
    "PVTv2": ("pvt_v2_b0", {"depths": (1, 1, 1, 1)}, (1, 3), (96, 128), False),
    "EfficientNet": ("test_efficientnet", {}, (2, 3), (96, 128), False),
    "MobileNetV4": ("mobilenetv4_conv_small_050", {}, (2, 3), (96, 128), False),
    "FastViT": ("fastvit_t8", {"layers": (1, 1, 1, 1)}, (1, 3), (128, 256), False),
    "RepViT": ("repvit_m0_9", {"depth": (1, 1, 2, 1), "embed_dim": (16, 24, 32, 48)}, (1, 3), (96, 128), False),
}  # fmt: skip


def write(folder, family, *, more=None, **settings):
    """A folder as timm's are on the hub, and the network whose weights it holds."""
    name, arguments, *_ = FAMILIES[family]
    arguments = {**arguments, **(more or {})}
    architecture = name.partition(".")[0]
    torch.manual_seed(0)
    pretrained = timm.get_pretrained_cfg(name).to_dict()
    network = randomise(timm.create_model(name, num_classes=0, **arguments), seed=1).eval()
    folder.mkdir(exist_ok=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    keep = ("mean", "std", "interpolation", "input_size", "fixed_input_size", "license")
    kept = {key: pretrained[key] for key in keep if pretrained.get(key) is not None}
    config = {"architecture": architecture, "num_classes": 0, "pretrained_cfg": {**kept, **settings}}
    (folder / "config.json").write_text(json.dumps({**config, "model_args": arguments}))
    return network


def official(folder, family, size, levels):
    """The maps of timm's own network at a size, loaded by timm's own loader."""
    name, arguments, *_ = FAMILIES[family]
    sized = {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    network = timm.create_model(
        name.partition(".")[0],
        num_classes=0,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(folder / "model.safetensors"), "num_classes": 0, "custom_load": False},
        **arguments,
        **sized,
    ).eval()
    pixels = random_pixels(size)
    call = {"indices": list(levels), "intermediates_only": True}
    with torch.inference_mode():
        try:
            return pixels, network.forward_intermediates(pixels, norm=True, **call)
        except AssertionError:  # Hiera's normalises nothing
            return pixels, network.forward_intermediates(pixels, norm=False, **call)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_what_timm_gives_at_two_sizes(family, tmp_path):
    _, _, levels, sizes, normed = FAMILIES[family]
    write(tmp_path / "weights", family)
    for size in sizes:
        teacher = teachers.load("timm", weights=tmp_path / "weights", levels=levels, image_size=size)
        pixels, expected = official(tmp_path / "weights", family, size, levels)
        found = teacher.embed(pixels)
        for entry, value in zip(teacher.spec.maps, expected, strict=True):
            assert value.std() > 0.01
            assert (entry.channels, entry.grid) == (value.shape[1], tuple(value.shape[-2:]))
            assert entry.grid == (size // entry.stride, size // entry.stride)
            assert (found[entry.name] - value).abs().max() <= 1e-5 * max(1, float(value.abs().max()))
        assert ("norm" in teacher.identity) == normed


def test_the_pixels_are_those_that_the_weights_ask_for_where_the_norm_counts(tmp_path):
    write(tmp_path / "vit", "SigLIP 2", interpolation="bicubic")
    vit = teachers.load("timm", weights=tmp_path / "vit", image_size=96)
    assert (vit.preprocessing.mean, vit.preprocessing.interpolation) == ((127.5, 127.5, 127.5), "bicubic")
    image = noise(70, 131)
    whole = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(whole, (96, 96), mode="bicubic", antialias=True)
    assert torch.equal(vit.prepare(image).pixels, ((resized[0].float() - 127.5) / 127.5))
    before = teachers.load("timm", weights=tmp_path / "vit", image_size=96, norm=False)
    assert before.preprocessing.interpolation == "bilinear"
    assert "norm" not in before.identity
    own = teachers.load("timm", weights=tmp_path / "vit", image_size=96, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 1))
    assert (own.preprocessing.mean, own.preprocessing.std) == ((25.5, 51.0, 76.5), (127.5, 153.0, 255.0))
    assert own.identity != vit.identity
    for change in ({"mean": (123.7, 116.3, 103.5)}, {"std": (0.5, 0.5)}, {"std": (0, 0.5, 0.5)}):
        (name,) = change
        with pytest.raises(ValueError, match=rf"expected {name} as three numbers for pixels in \[0, 1\] .*, got \["):
            teachers.load("timm", weights=tmp_path / "vit", **change)


def test_a_network_without_a_final_norm_is_what_it_was_in_every_detail(tmp_path):
    write(tmp_path / "net", "EfficientNet", interpolation="bicubic")
    for norm in (True, False):
        teacher = teachers.load("timm", weights=tmp_path / "net", strides=(8, 16), image_size=96, norm=norm)
        assert list(teacher.identity) == [
            *("teacher", "model", "levels", "weights", "image_size", "preprocessing", "precision", "maps"),
        ]
        assert teacher.identity["preprocessing"].startswith(
            "stretch 1: to 96 x 96 (torch, bilinear, antialiased), (rgb"
        )


def test_a_pyramid_s_file_has_no_final_norm_and_says_so(tmp_path):
    file = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit", features_only=True).state_dict(), file)
    with pytest.raises(ValueError, match=r"without its final norm; give the whole network's weights, or norm=false"):
        teachers.load("timm", weights=file, model="test_vit")
    assert teachers.load("timm", weights=file, model="test_vit", norm=False).spec.names == ("stride16",)


def test_a_dinov2_by_timm_equals_the_same_by_dinov2(tmp_path):
    for family in ("DINOv2", "DINOv2 with registers"):
        write(tmp_path / family, family, more={"embed_dim": 128, "img_size": 70})  # 64 channels a head, as published
        weights = {"weights": tmp_path / family, "levels": (0, 2), "image_size": 70}
        pixels = random_pixels(70)
        by_timm, by_dinov2 = (teachers.load(name, **weights).embed(pixels) for name in ("timm", "dinov2"))
        for mine, other in zip(by_timm.values(), by_dinov2.values(), strict=True):
            assert other.std() > 0.1
            assert (mine - other).abs().max() <= 1e-5


def test_a_network_of_one_size_says_so(tmp_path):
    arguments = {"embed_dim": 16, "num_heads": 1, "stages": (1, 1, 1, 1)}
    network = timm.create_model("hiera_tiny_224", num_classes=0, **arguments)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    settings = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 224, 224], "fixed_input_size": True}
    config = {"architecture": "hiera_tiny_224", "num_classes": 0, "pretrained_cfg": settings, "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'hiera_tiny_224' do not load at image_size=288, only at its own 224; leave"):
        teachers.load("timm", weights=tmp_path, image_size=288)


def test_options_of_timm_are_refused_elsewhere(tmp_path):
    for option in ({"norm": False}, {"mean": (0.5, 0.5, 0.5)}):
        with pytest.raises(ValueError, match=r"teacher 'sam' has no option \w+, got .*; leave it out, or choose from "):
            teachers.load("sam", weights="builtin", **option)


def test_the_readme_names_every_family_that_is_tested_here():
    named_in_readme(FAMILIES, "timm")
