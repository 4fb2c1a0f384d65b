"""SAM 2 as published: its trunk against timm's, its pyramid against transformers', its checkpoints as they are."""

from __future__ import annotations

import re

import pytest
import torch
from small_teachers import SMALL_SAM2, noise, random_pixels, randomise, refusal_of, write_sam2
from torch.nn import functional as F

import teachers
from teachers.weights import originals
from teachers.weights.names import renamed
from teachers.weights.originals import sam2_settings

SMALL_BLOCKS, SMALL = (1, 1, 2, 1), (1, (8, 4, 4, 2), (3,))
PIXELS = random_pixels(128)
EVERYTHING = {"strides": (4, 8, 16), "levels": (0, 1, 2, 3)}


def small_hiera():
    """Another author's implementation of the trunk, of the same small size, with random weights."""
    from timm.models.hieradet_sam2 import HieraDet

    trunk = HieraDet(
        embed_dim=16,
        num_heads=1,
        stages=SMALL_BLOCKS,
        global_pos_size=(4, 4),
        window_spec=SMALL[1],
        global_att_blocks=SMALL[2],
        num_classes=0,
    )
    return randomise(trunk, seed=3, attention=1).eval()


def checkpoint(trunk):
    """The state dict of a whole video model: trunk, pyramid, and something of what nobody reads."""
    generator = torch.Generator().manual_seed(1)
    state = {"no_mem_embed": torch.zeros(1, 1, 32), "sam_mask_decoder.iou_token.weight": torch.ones(1, 32)}
    for name, value in trunk.state_dict().items():
        if not name.startswith("head."):
            original = re.sub(r"mlp\.fc([12])", lambda match: f"mlp.layers.{int(match[1]) - 1}", name)
            state[f"image_encoder.trunk.{original}"] = value
    for level, width in enumerate((128, 64, 32, 16)):
        state[f"image_encoder.neck.convs.{level}.conv.weight"] = torch.randn(32, width, 1, 1, generator=generator) / 8
        state[f"image_encoder.neck.convs.{level}.conv.bias"] = torch.randn(32, generator=generator)
    return state


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setitem(originals.TRUNKS, SMALL_BLOCKS, SMALL)
    path = tmp_path / "sam2.1_hiera_small.pt"
    torch.save({"model": checkpoint(small_hiera())}, path)
    return path


def test_an_original_checkpoint_gives_the_published_stages_and_pyramid(file):
    trunk, state = small_hiera(), checkpoint(small_hiera())
    maps = teachers.load("sam2", weights=file, image_size=128, **EVERYTHING).embed(PIXELS)
    with torch.inference_mode():
        stages = trunk.forward_intermediates(PIXELS, norm=False, intermediates_only=True)
    neck = {name.rpartition("neck.convs.")[2]: value for name, value in state.items()}
    lateral = [
        F.conv2d(stages[3 - level], neck[f"{level}.conv.weight"], neck[f"{level}.conv.bias"]) for level in range(4)
    ]
    sixteenth = lateral[1] + F.interpolate(lateral[0], scale_factor=2.0, mode="nearest")  # fpn_top_down_levels: 2, 3
    expected = {"fpn0": lateral[3], "fpn1": lateral[2], "fpn2": sixteenth}
    expected |= {f"stage{index}": value for index, value in enumerate(stages)}
    assert list(maps) == list(expected)
    for name, value in expected.items():
        assert value.std() > 0.1
        assert (maps[name] - value).abs().max() <= 1e-5, name


def test_folders_of_transformers_give_what_transformers_gives(tmp_path):
    from transformers import Sam2Config, Sam2Model, Sam2VisionModel

    arguments = write_sam2(tmp_path / "vision")
    teacher = teachers.load("sam2", **arguments)
    with torch.inference_mode():
        expected = Sam2VisionModel.from_pretrained(tmp_path / "vision").eval()(PIXELS)
    for level, value in enumerate(expected.fpn_hidden_states):
        assert (teacher.embed(PIXELS)[f"fpn{level}"] - value).abs().max() <= 1e-5
    last = expected.last_hidden_state.permute(0, 3, 1, 2)
    assert (teacher.embed(PIXELS)["stage3"] - last).abs().max() <= 1e-5

    config = Sam2Config(
        vision_config=SMALL_SAM2,
        prompt_encoder_config={"hidden_size": 32, "image_size": 128},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 8},
    )
    whole = randomise(Sam2Model(config), seed=0).eval()
    whole.save_pretrained(tmp_path / "whole")
    found = teachers.load("sam2", weights=tmp_path / "whole")
    with torch.inference_mode():
        expected = whole.vision_encoder(PIXELS).fpn_hidden_states
    assert found.spec.names == ("fpn0", "fpn1", "fpn2")
    assert [(entry.channels, entry.grid, entry.stride) for entry in found.spec.maps] == [
        (32, (32, 32), 4),
        (32, (16, 16), 8),
        (32, (8, 8), 16),
    ]
    for value, name in zip(expected, found.spec.names, strict=True):
        assert (found.embed(PIXELS)[name] - value).abs().max() <= 1e-5
    assert found.licence == "Apache-2.0"


@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large"])
def test_every_size_is_told_from_its_shapes(size):
    import timm
    from transformers import Sam2VisionConfig, Sam2VisionModel

    with torch.device("meta"):
        trunk = timm.create_model(f"sam2_hiera_{size}", num_classes=0)
    shapes = {name: tuple(value.shape) for name, value in checkpoint(trunk).items()}
    settings = sam2_settings(shapes, "sam2.pt")
    with torch.device("meta"):
        network = Sam2VisionModel(Sam2VisionConfig.from_dict(settings))
    found = {renamed(name, "sam2"): tuple(value.shape) for name, value in network.state_dict().items()}
    for name, shape in shapes.items():
        if name.startswith("image_encoder.trunk."):
            assert found.pop(name) == shape
    assert all(name.startswith("image_encoder.neck.convs.") for name in found)
    heads = [block.attn.num_heads for block in trunk.blocks]
    assert heads == [block.attn.num_attention_heads for block in network.backbone.blocks]
    windows = [block.window_size[0] for block in trunk.blocks]  # 0: everywhere
    assert windows == [block.window_size for block in network.backbone.blocks]


def test_maps_are_chosen_by_stride_and_by_stage(tmp_path):
    weights = write_sam2(tmp_path / "small")["weights"]
    everything = teachers.load("sam2", weights=weights, **EVERYTHING)
    image = noise(60, 90)
    for arguments, names in [
        ({"strides": (16,)}, ("fpn2",)),
        ({"levels": (3, 1)}, ("stage1", "stage3")),
        ({"levels": (0,), "strides": (8,)}, ("fpn1", "stage0")),
    ]:
        teacher = teachers.load("sam2", weights=weights, **arguments)
        assert teacher.spec.names == names
        for name, value in teacher([image]).items():
            assert torch.equal(value, everything([image])[name])


def test_the_whole_image_is_stretched_as_the_original_does(tmp_path):
    teacher = teachers.load("sam2", **write_sam2(tmp_path / "small"), image_size=96)
    image = noise(70, 131)
    prepared = teacher.prepare(image)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    whole = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    resized = F.interpolate(whole[None], (96, 96), mode="bilinear", antialias=True)[0]
    expected = (resized - mean[:, None, None]) / std[:, None, None]
    assert (prepared.pixels - expected).abs().max() < 1.01 / 57  # a grey level: it is rounded to whole ones
    assert prepared.valid == (1.0, 1.0)
    assert teacher.spec["fpn2"].grid == (6, 6)


def test_sam2_says_what_does_not_fit(tmp_path, file):
    arguments = write_sam2(tmp_path / "folder")
    for change, message in [
        ({"model": "tiny"}, r"teacher 'fpn' has no option model: leave out model=tiny$"),
        ({"strides": (32,)}, r"pyramid has no map of stride 32; choose from 4, 8, 16"),
        ({"levels": (4,)}, r"SAM 2 weights have stages 0 to 3, got levels=\[4\]"),
        (
            {"image_size": 1000},
            r"multiple of 32, so that SAM 2's windows .*, got 1000; choose 992 or 1024",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            teachers.load("sam2", **{**arguments, **change})
    (tmp_path / "folder" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json beside .*`hf download facebook/sam2\.1-hiera-tiny`"):
        teachers.load("sam2", **arguments)
    refused = refusal_of("sam2", file, lambda: checkpoint(small_hiera()))
    lost = "image_encoder.trunk.blocks.1.mlp.layers.0.bias"
    refused(lambda state: state.pop(lost), rf"lacks 1 tensor \({re.escape(lost)}\); give the matching file")
    refused(
        lambda state: state.update({"adapter.weight": torch.ones(2)}), r"holds unknown 1 tensor \(adapter\.weight\)"
    )
    refused(
        lambda state: state.pop("image_encoder.trunk.pos_embed"),
        r"expected image_encoder\.trunk\.pos_embed of 4 dimensions, from which .*, got none; give the published file",
    )
    refused(
        lambda state: [state.pop(name) for name in list(state) if ".blocks.4." in name],
        r"holds a trunk of \[1, 1, 2\] blocks, but SAM 2 has one of \[\[1, 2, 7, 2\], .*; give the published file",
    )
    refused(
        lambda state: [state.pop(name) for name in list(state) if name.startswith("image")],
        r"not an original checkpoint of teacher 'sam2': it holds no tensor image_encoder\.\*; give sam2\.1_hiera_tiny",
    )
