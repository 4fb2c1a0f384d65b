"""DINOv3 by `transformers`, as the library computes it: blocks of its ViT, stages of its ConvNeXt."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_teachers import noise, random_pixels, randomise, write_dinov3

import teachers

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2}


def write_vit(folder, **sizes):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    randomise(DINOv3ViTModel(DINOv3ViTConfig(**{**SIZES, "image_size": 96, **sizes})), seed=1).save_pretrained(folder)
    return DINOv3ViTModel.from_pretrained(folder).eval()


def write_convnext(folder):
    from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

    config = DINOv3ConvNextConfig(hidden_sizes=[16, 24, 32, 48], depths=[1, 2, 1, 1], image_size=96)
    randomise(DINOv3ConvNextModel(config), seed=1).save_pretrained(folder)
    return DINOv3ConvNextModel.from_pretrained(folder).eval()


@pytest.mark.parametrize("sizes", [{}, {"num_register_tokens": 4}, {"use_gated_mlp": True, "num_register_tokens": 4}])
@pytest.mark.parametrize("size", [96, 160])
def test_a_vit_gives_what_transformers_gives_at_any_size(tmp_path, sizes, size):
    library = write_vit(tmp_path, **sizes)
    teacher = teachers.load("transformers", weights=tmp_path, levels=(2, 0), image_size=size)
    maps, cells = teacher.embed(random_pixels(size)), size // 16
    with torch.inference_mode():
        said = library(random_pixels(size), output_hidden_states=True)
        first = library.norm(said.hidden_states[1])
    assert teacher.spec.names == ("block0", "block2")
    assert (teacher.spec["block2"].grid, teacher.spec["block2"].stride) == ((cells, cells), 16)
    for name, tokens in (("block0", first), ("block2", said.last_hidden_state)):
        expected = tokens[:, -cells * cells :].transpose(1, 2).unflatten(2, (cells, cells))
        assert expected.std() > 0.1
        assert (maps[name] - expected).abs().max() <= 1e-5


def test_a_convnext_gives_the_stages_of_transformers_and_norms_the_last(tmp_path):
    library = write_convnext(tmp_path)
    teacher = teachers.load("transformers", weights=tmp_path, levels=(0, 1, 2, 3))
    maps = teacher.embed(random_pixels(96))
    with torch.inference_mode():
        said = library(random_pixels(96), output_hidden_states=True)
    assert [(entry.channels, entry.grid, entry.stride) for entry in teacher.spec] == [
        (16, (24, 24), 4),
        (24, (12, 12), 8),
        (32, (6, 6), 16),
        (48, (3, 3), 32),
    ]
    for level in range(3):
        assert (maps[f"stage{level}"] - said.hidden_states[level + 1]).abs().max() <= 1e-5
    last = said.last_hidden_state[:, 1:].transpose(1, 2).unflatten(2, (3, 3))
    assert last.std() > 0.1
    assert (maps["stage3"] - last).abs().max() <= 1e-5
    raw = teachers.load("transformers", weights=tmp_path, levels=(0, 1, 2, 3), norm=False)
    assert (raw.embed(random_pixels(96))["stage3"] - said.hidden_states[4]).abs().max() <= 1e-5
    assert raw.identity != teacher.identity


def test_a_response_of_the_convnext_lies_where_its_cause_lies(tmp_path):
    write_convnext(tmp_path)
    teacher = teachers.load("transformers", weights=tmp_path, levels=(2,))
    image = noise(91, 147)
    changed = image.copy()
    changed[60:75, 20:38] = 255
    energy = (teacher([changed])["stage2"] - teacher([image])["stage2"])[0].square().sum(0)
    row, column = divmod(int(energy.argmax()), 6)
    assert (row, column) == (4, 1)  # of 6 x 6 cells: 67.5 / 91 and 29 / 147


def test_nothing_runs_that_is_deeper_than_asked_for(tmp_path):
    write_vit(tmp_path / "vit")
    write_convnext(tmp_path / "convnext")
    for folder, blocks in (("vit", "layer"), ("convnext", "stages")):
        first = teachers.load("transformers", weights=tmp_path / folder, levels=(0,))
        both = teachers.load("transformers", weights=tmp_path / folder, levels=(0, 1))
        lists = [m for name, m in first.network.named_modules() if name.endswith(blocks) and hasattr(m, "__len__")]
        assert [len(entry) for entry in lists if isinstance(entry, torch.nn.ModuleList)] == [1]
        (name,) = first.spec.names
        assert torch.equal(first([noise(60, 90)])[name], both([noise(60, 90)])[name])


def test_it_says_what_does_not_fit(tmp_path):
    arguments = write_dinov3(tmp_path / "vit")
    write_convnext(tmp_path / "convnext")
    for change, message in [
        ({"image_size": 100}, r"multiple of 16, so that dinov3_vit's cells cover .*, got 100; choose 96 or 112"),
        ({"levels": (2,)}, r"have blocks 0 to 1, got levels=\[2\]"),
        ({"strides": (16,)}, r"has no option strides: leave out strides=\(16,\); its maps are chosen by levels$"),
        ({"model": "dinov3_vits16"}, r"has no option model: leave out model=dinov3_vits16$"),
        ({"classes": ("polyp",)}, r"has no option classes, got classes=\('polyp',\); leave it out, or choose"),
        ({"weights": tmp_path / "convnext", "levels": (4,)}, r"have stages 0 to 3, got levels=\[4\]"),
        (
            {"weights": tmp_path / "convnext", "levels": (3,), "image_size": 112},
            r"multiple of 32, so that dinov3_convnext's cells cover .*, got 112; choose 96 or 128",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            teachers.load("transformers", **{**arguments, **change})
    (tmp_path / "vit" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json beside .*`hf download facebook/dinov3-vitb16"):
        teachers.load("transformers", **arguments)


def test_a_vit_of_a_smaller_configuration_is_refused(tmp_path):
    write_vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    kept = {key: value for key, value in config.items() if not key.startswith("out_")}
    (tmp_path / "config.json").write_text(json.dumps({**kept, "num_hidden_layers": 2}))
    with pytest.raises(ValueError, match=r"holds unknown \d+ tensors \(layer\.2\.\S+, .*; give the matching file"):
        teachers.load("transformers", weights=tmp_path)


def test_the_published_file_of_the_hub_keeps_its_names(tmp_path):
    """Files on the hub say layer.0, whatever the modules are called in the version at hand."""
    write_vit(tmp_path, num_register_tokens=4)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {
        "embeddings.cls_token",
        "layer.0.attention.q_proj.weight",
        "layer.2.mlp.up_proj.weight",
        "norm.bias",
    } <= names
    halved = {name: value.half() for name, value in load_file(tmp_path / "model.safetensors").items()}
    save_file(halved, tmp_path / "model.safetensors")
    teacher = teachers.load("transformers", weights=tmp_path)
    assert {parameter.dtype for parameter in teacher.network.parameters()} == {torch.float32}
    assert teacher.licence == "DINOv3 License"
