"""Checkpoints of endoscopic networks, of their names and shapes: each becomes a file that the adapter `timm` loads."""

from __future__ import annotations

import argparse
import re

import pytest
import timm
import torch
from safetensors.torch import load_file
from small_teachers import noise, randomise

import teachers
from distill.cli.weights import words_for
from teachers.weights.known import ENDOSCOPIC
from teachers.weights.releases import convert


def original_caformer(name):
    """A name of timm's CaFormer in the official code (sail-sg/metaformer)."""
    name = name.replace("stem.conv", "downsample_layers.0.conv").replace("stem.norm", "downsample_layers.0.post_norm")
    name = re.sub(r"stages\.(\d)\.downsample\.conv", r"downsample_layers.\1.conv", name)
    name = re.sub(r"stages\.(\d)\.downsample\.norm", r"downsample_layers.\1.pre_norm", name)
    return re.sub(r"\.blocks\.", ".", name).replace("head.norm", "norm").replace("head.fc.", "head.")


def original_convnext(name):
    """A name of timm's ConvNeXt V2 in the official code (facebookresearch/ConvNeXt-V2)."""
    name = name.replace("stem.", "downsample_layers.0.").replace("mlp.grn.bias", "grn.beta")
    name = re.sub(r"stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name).replace(".blocks.", ".")
    name = name.replace("mlp.grn.weight", "grn.gamma").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
    return name.replace("head.norm", "norm").replace("head.fc", "head")


def original_pvt(name):
    """A name of timm's PVT v2 in the official code (whai362/PVT)."""
    name = re.sub(r"stages\.(\d)\.downsample", lambda found: f"patch_embed{int(found[1]) + 1}", name)
    name = re.sub(r"stages\.(\d)\.blocks\.", lambda found: f"block{int(found[1]) + 1}.", name)
    name = re.sub(r"stages\.(\d)\.norm", lambda found: f"norm{int(found[1]) + 1}", name)
    return re.sub(r"^patch_embed\.", "patch_embed1.", name).replace("mlp.dwconv", "mlp.dwconv.dwconv")


ORIGINAL = {
    "surgenetxl-caformer-s18": original_caformer,
    "surgenet-convnextv2-tiny": original_convnext,
    "surgenet-pvtv2-b2": original_pvt,
}


def checkpoint(entry, network):
    """The published file, as `torch.load` reads it."""
    state = {ORIGINAL.get(entry.name, str)(name): value for name, value in network.state_dict().items()}
    state = {name: value[None, None, None] if ".grn." in name else value for name, value in state.items()}
    if entry.name == "endovit":  # a whole training, with a masked autoencoder's decoder
        state |= {"mask_token": torch.zeros(1, 1, 512), "decoder_embed.weight": torch.zeros(512, 768)}
        return {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    if entry.name == "gastronet5m-resnet50":
        return {f"backbone.{name}": value for name, value in state.items() if not name.startswith("fc.")}
    return state


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("endoscopy")


@pytest.mark.parametrize("entry", ENDOSCOPIC, ids=lambda entry: entry.name)
def test_a_published_file_becomes_one_that_timm_loads(entry, files):
    torch.manual_seed(0)
    with torch.device("meta"):
        network = timm.create_model(entry.model, num_classes=0 if "vit_" in entry.model else 2)
    network = randomise(network.to_empty(device="cpu"), seed=0).eval()
    for name, value in network.named_buffers():
        value.fill_(1 if name.endswith("running_var") else 0)
    torch.save(checkpoint(entry, network), files / "published.pth")
    convert(files / "published.pth", files / f"{entry.name}.safetensors", model=entry.model, title=entry.name)
    mean = {name: getattr(entry, name) or None for name in ("mean", "std")}
    size = 224 if "vit_" in entry.model else 64
    teacher = teachers.load(
        "timm", weights=files / f"{entry.name}.safetensors", model=entry.model, image_size=size, **mean
    )
    pixels = torch.randn(1, 3, size, size)
    (level,) = teacher.identity["levels"]
    with torch.inference_mode():
        expected = network.forward_intermediates(pixels, indices=[level], norm=True, intermediates_only=True)[0]
    assert expected.std() > 1e-4
    assert (teacher.embed(pixels)["stride16"] - expected).abs().max() <= 1e-5 * max(1, float(expected.abs().max()))
    if entry.mean:
        assert teacher.preprocessing.mean == tuple(round(255 * value, 6) for value in entry.mean)
        assert "teachers.NAME.mean=[0.3464,0.228,0.2228]" in words_for(entry, files)
    else:
        assert teacher.preprocessing.mean == (123.675, 116.28, 103.53)


def test_a_file_that_lacks_or_holds_other_tensors_is_refused_and_nothing_is_written(tmp_path):
    (entry,) = (entry for entry in ENDOSCOPIC if entry.name == "gastronet5m-resnet50")
    state = timm.create_model("resnet50").state_dict()
    for change, message in (
        (
            lambda: state.pop("layer1.0.conv1.weight"),
            r"the weights of gastronet5m-resnet50: it lacks 1 tensor \(layer1",
        ),
        (lambda: state.update({"layer9.weight": torch.ones(2)}), r"and holds unknown 1 tensor \(layer9\.weight\)"),
    ):
        change()
        torch.save(state, tmp_path / "published.pth")
        with pytest.raises(ValueError, match=message):
            convert(tmp_path / "published.pth", tmp_path / "out", model=entry.model, title=entry.name)
    assert [path.name for path in tmp_path.iterdir()] == ["published.pth"]


def test_settings_beside_the_tensors_are_read_as_such_and_other_classes_are_not(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was run",))

    torch.save({"model": {"a": torch.zeros(1)}, "args": argparse.Namespace(hook=Trap())}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"holds more than tensors.*; a pickle can run code"):
        teachers.weights.checkpoint.read_checkpoint(tmp_path / "trap.pth")


def test_a_converted_file_is_one_of_timm_s(files):
    found = load_file(files / "surgenet-pvtv2-b2.safetensors")
    assert found.keys() == timm.create_model("pvt_v2_b2", features_only=True).state_dict().keys()
    image = noise(40, 60)
    teacher = teachers.load("timm", weights=files / "surgenet-pvtv2-b2.safetensors", model="pvt_v2_b2", image_size=64)
    assert teacher([image])["stride16"].shape == (1, 320, 4, 4)
