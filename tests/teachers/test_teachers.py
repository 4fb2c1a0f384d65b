"""Every teacher keeps one contract; each adapter equals the official implementation."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_teachers import (
    SMALL_SAM,
    WRITERS,
    noise,
    random_pixels,
    randomise,
    save_student,
    small_segment_anything,
    write_sam,
    write_timm,
)  # fmt: skip
from torch.nn import functional as F

import students
import teachers
from cache.spec import LOGIT_CLIP, FeatureSpec, MapSpec
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, SquareResize
from teachers.weights import known

MISSING = "bandpass-tests/no-such-weights"
PUBLISHED_AS_PICKLES = ("dinov2", "fpn", "sam", "sam2")


@pytest.fixture(scope="module", params=sorted(teachers.TEACHERS))
def member(request, tmp_path_factory):
    """Name and arguments of a small random teacher of each kind."""
    assert request.param in WRITERS, "a new teacher needs a small random configuration in small_teachers.py"
    return request.param, WRITERS[request.param](tmp_path_factory.mktemp(request.param) / "weights")


@pytest.fixture(scope="module")
def teacher(member):
    name, arguments = member
    return teachers.load(name, **arguments)


# One contract


@pytest.mark.parametrize(("height", "width"), [(96, 96), (90, 160), (160, 120), (131, 77)])
def test_a_response_lies_where_its_cause_lies_in_the_image(teacher, height, width):
    background = noise(height, width)
    places = [(0.25, 0.3), (0.7, 0.25), (0.5, 0.5), (0.3, 0.75), (0.8, 0.8)]
    images = [background]
    for y, x in places:
        image = background.copy()
        top, left = round(y * height - height / 16), round(x * width - width / 16)
        image[top : top + height // 8, left : left + width // 8] = 255
        images.append(image)
    maps, valid = teacher(images), teacher.prepare(background).valid
    for entry in teacher.spec.maps:
        for place, response in zip(places, maps[entry.name][1:] - maps[entry.name][0], strict=True):
            energy = response.square().sum(0)
            energy = energy * (energy > energy.max() / 4)  # attention answers a little everywhere
            for axis, cells in enumerate(entry.grid):
                centres = (torch.arange(cells) + 0.5) / cells
                found = float((energy.sum(1 - axis) * centres).sum() / energy.sum())
                own_cell = 1 / (cells * valid[axis])  # what the network itself can tell apart
                if entry.name == "mask" and "classes" in teacher.identity:
                    own_cell *= 2  # one channel, made by queries: it may answer at one edge of the square alone
                assert abs(found - place[axis]) < own_cell, (entry.name, place, axis, found)


def test_images_of_different_sizes_in_one_batch_equal_single_images(teacher):
    images = [noise(64, 64), noise(50, 90, seed=1), noise(91, 63, seed=2)]
    together = teacher(images)
    for position, image in enumerate(images):
        for name, value in teacher([image]).items():
            torch.testing.assert_close(together[name][position], value[0], atol=2e-5, rtol=2e-5)


def test_a_view_of_an_image_whose_memory_runs_backwards_is_an_image_too(teacher):
    image = noise(40, 60)
    assert torch.equal(
        teacher.prepare(image[::-1, ::-1]).pixels, teacher.prepare(np.ascontiguousarray(image[::-1, ::-1])).pixels
    )


def test_it_is_frozen_and_its_maps_are_what_the_spec_says(teacher):
    assert not teacher.network.training
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    maps = teacher([noise(30, 40), noise(30, 40, seed=1)])
    assert isinstance(teacher.spec, FeatureSpec)
    assert set(maps) == set(teacher.spec.names)
    for entry in teacher.spec.maps:
        assert maps[entry.name].shape == (2, entry.channels, *entry.grid)
        assert maps[entry.name].dtype == torch.float32
        assert not maps[entry.name].requires_grad
        assert maps[entry.name].std() > 0.01


def test_bfloat16_stays_within_five_percent_and_says_so(member):
    name, arguments = member
    exact = teachers.load(name, **arguments)
    rough = teachers.load(name, **arguments).to("cpu", torch.bfloat16)
    image = noise(60, 80)
    for key, value in exact([image]).items():
        error = (rough([image])[key] - value).norm() / value.norm()
        assert 0 < error < 0.05
    assert exact.identity["precision"] == "float32"
    assert rough.identity["precision"] == "bfloat16"


def test_a_second_loading_is_equal_and_other_weights_have_another_identity(member, teacher, tmp_path):
    name, arguments = member
    image = noise(50, 50)
    again = teachers.load(name, **arguments)
    other = teachers.load(name, **WRITERS[name](tmp_path / "other", seed=1))
    assert again.identity == teacher.identity == json.loads(json.dumps(teacher.identity))
    assert other.identity != teacher.identity
    assert {key for key in other.identity if other.identity[key] != teacher.identity[key]} == {"weights"}
    for key, value in teacher([image]).items():
        assert torch.equal(again([image])[key], value)
        assert not torch.allclose(other([image])[key], value, atol=1e-2)


def test_workers_need_its_preprocessing_only(teacher):
    image = noise(33, 47)
    carried = pickle.dumps(teacher.preprocessing)
    assert len(carried) < 1000
    assert torch.equal(pickle.loads(carried)(image).pixels, teacher.prepare(image).pixels)


def test_what_is_not_an_rgb_image_is_refused(teacher):
    with pytest.raises(ValueError, match=r"expected an RGB image, a uint8 array .*, got uint8 \(5, 5\)"):
        teacher.prepare(np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match=r"expected an RGB image.*got float64 \(5, 5, 3\)"):
        teacher.prepare(np.zeros((5, 5, 3)))


# Errors, for every member


def test_an_unknown_teacher_is_refused():
    with pytest.raises(ValueError, match=r"unknown teacher 'sam_vit_x'; choose from dinov2, ensemble, fpn, mask"):
        teachers.load("sam_vit_x", weights="somewhere")


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'stride'"):
        teachers.load("timm", weights="somewhere", stride=16)


def test_a_teacher_without_weights_is_refused(member):
    with pytest.raises(
        ValueError, match=r"needs weights: a local folder or file, or a hub id; got None; `hf download [\w-]+/"
    ):
        teachers.load(member[0], **{**member[1], "weights": None})


def test_a_missing_path_says_where_it_was_looked_for_and_what_gets_it(member, tmp_path):
    path = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError, match=rf"looked for a file or folder at {path}.*`hf download [\w-]+/\S+`"):
        teachers.load(member[0], **{**member[1], "weights": path})
    path.mkdir()
    with pytest.raises(FileNotFoundError, match=rf"no weights in {path}: looked for model\.safetensors.*`hf download"):
        teachers.load(member[0], **{**member[1], "weights": path})


def test_hub_weights_that_are_not_here_say_so_offline(member, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        FileNotFoundError, match=rf"{MISSING} in the hub's cache .*HF_HUB_OFFLINE.*`hf download {MISSING}`"
    ):
        teachers.load(member[0], **{**member[1], "weights": MISSING})


def test_hub_weights_without_network_end_in_the_same_sentence(member, monkeypatch):
    def unreachable(hub_id, filename, *, revision):
        raise ConnectionError("Name or service not known")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(FileNotFoundError, match=rf"the hub said: Name or service not known; .*`hf download {MISSING}`"):
        teachers.load(member[0], **{**member[1], "weights": MISSING})


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_code_in_a_pickle_is_never_executed(member, tmp_path, suffix):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    path = tmp_path / f"pytorch_model{suffix}"
    path.write_bytes(pickle.dumps(Trap()))
    unopened = r"is a pickle, .*expected a safetensors file; `hf download .*save_file"
    stopped = r"holds more than tensors.*or is damaged; .*nothing in it was executed: expected a state dict"
    reads = member[0] in PUBLISHED_AS_PICKLES and suffix != ".bin"
    for weights, message in ((path, stopped if reads else unopened), (tmp_path, unopened)):
        with pytest.raises(ValueError, match=message):
            teachers.load(member[0], **{**member[1], "weights": weights})
    renamed = tmp_path / "model.safetensors"
    renamed.write_bytes(path.read_bytes())
    for config in _folder(member).glob("config.json"):
        shutil.copy(config, tmp_path)
    with pytest.raises(
        ValueError, match=r"is not a whole safetensors file \(a git-LFS pointer, or half a download\?\)"
    ):
        teachers.load(member[0], **{**member[1], "weights": renamed})


def _folder(member):
    path = Path(str(member[1]["weights"]).partition(",")[0])  # of an ensemble the first
    return path if path.is_dir() else path.parent


def _rewritten(member, folder, change):
    """The arguments of a member whose state dict was changed on disk."""
    shutil.copytree(_folder(member), folder)
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    return {**member[1], "weights": folder / "model.safetensors" if member[0] == "timm" else folder}


def test_missing_extra_and_resized_tensors_are_named(member, tmp_path):
    name = next(key for key, value in load_file(_folder(member) / "model.safetensors").items() if value.ndim == 4)

    def lose(state):
        del state[name]
        state["intruder"] = torch.zeros(1)

    with pytest.raises(ValueError, match=rf"lacks 1 tensor \({name}\) and holds unknown 1 tensor \(intruder\)"):
        teachers.load(member[0], **_rewritten(member, tmp_path / "lost", lose))

    def grow(state):
        state[name] = torch.cat([state[name]] * 2)

    with pytest.raises(ValueError, match=rf"expected {name} of shape \(.*\), got \(.*\); give the matching file"):
        teachers.load(member[0], **_rewritten(member, tmp_path / "grown", grow))


def test_the_config_of_another_kind_of_model_is_refused(member, tmp_path):
    arguments = _rewritten(member, tmp_path / "other", lambda state: None)
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"describes a model of type 'bert', but teacher '\w+' needs .*`hf download"):
        teachers.load(member[0], **arguments)


# The folder's README


README = Path(teachers.__file__).with_name("README.md")


def test_the_readme_s_own_teacher_teaches(tmp_path, monkeypatch):
    from torchvision.models import resnet18

    (code,) = re.findall(r"In `my_teacher.py`:\n\n```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_teacher.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    save_file(resnet18().state_dict(), tmp_path / "resnet18.safetensors")
    teacher = teachers.load("my_teacher:MyTeacher", weights=tmp_path / "resnet18.safetensors", image_size=64)
    assert teacher([noise(50, 70)])["layer3"].shape == (1, 256, 4, 4)


# SAM


def official_names(state):
    """Names in `segment_anything`'s checkpoints -> names in those of `transformers`."""
    pairs = (
        ("image_encoder.", "vision_encoder."),
        ("patch_embed.proj", "patch_embed.projection"),
        ("blocks.", "layers."),
        ("norm1.", "layer_norm1."),
        ("norm2.", "layer_norm2."),
        ("neck.0.", "neck.conv1."),
        ("neck.1.", "neck.layer_norm1."),
        ("neck.2.", "neck.conv2."),
        ("neck.3.", "neck.layer_norm2."),
    )
    renamed = {}
    for name, value in state.items():
        for old, new in pairs:
            name = name.replace(old, new)
        renamed[name] = value
    return renamed


def test_sam_equals_segment_anything_and_transformers_on_the_same_weights_and_pixels(tmp_path):
    from transformers import SamVisionConfig, SamVisionModel

    official = small_segment_anything()
    state = official_names({f"image_encoder.{name}": value for name, value in official.state_dict().items()})
    save_file(state, tmp_path / "model.safetensors")
    SamVisionConfig(**SMALL_SAM).save_pretrained(tmp_path)
    teacher = teachers.load("sam", weights=tmp_path)
    pixels = random_pixels(80)
    found = teacher.embed(pixels)["neck"]
    with torch.inference_mode():
        expected = official(pixels)
        library = SamVisionModel.from_pretrained(tmp_path)(pixels).last_hidden_state
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= 1e-5
    assert (found - library).abs().max() <= 1e-5


def test_sam_is_read_out_of_the_whole_model_too(tmp_path):
    from transformers import SamConfig, SamModel

    config = SamConfig(
        vision_config=SMALL_SAM,
        prompt_encoder_config={"hidden_size": 32, "image_size": 80, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 8},
    )
    model = randomise(SamModel(config), seed=0, attention=1).eval()
    model.save_pretrained(tmp_path)
    teacher = teachers.load("sam", weights=tmp_path)
    pixels = torch.randn(1, 3, 80, 80)
    assert (teacher.embed(pixels)["neck"] - model.get_image_embeddings(pixels)).abs().max() <= 1e-5
    assert teacher.licence == "Apache-2.0"
    assert [entry.name for entry in teacher.spec.maps] == ["neck"]
    assert teacher.spec["neck"].stride == 8


def test_the_configuration_that_the_hub_holds_for_sam_is_understood(tmp_path):
    from transformers import SamVisionConfig

    from teachers.weights.locate import locate, vision_config

    old = {"_name_or_path": "", "dropout": 0.0, "projection_dim": 512, "torch_dtype": None, "model_type": ""}
    sizes = {"hidden_size": 768, "mlp_dim": 3072, "image_size": 1024, "global_attn_indexes": [2, 5, 8, 11]}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "sam", "vision_config": {**old, **sizes}}))
    save_file({}, tmp_path / "model.safetensors")
    files = locate(tmp_path, teacher="sam", example="facebook/sam-vit-base")
    config = SamVisionConfig.from_dict(vision_config(files, ("sam",), checkpoint="sam.pth")[1])
    assert (config.image_size, config.patch_size, config.output_channels) == (1024, 16, 256)


@pytest.mark.parametrize(("height", "width"), [(37, 91), (300, 173), (80, 80), (1200, 640)])
def test_sam_pixels_equal_those_of_segment_anything_and_nearly_those_of_transformers(tmp_path, height, width):
    from segment_anything.utils.transforms import ResizeLongestSide
    from transformers import SamImageProcessor

    teacher = teachers.load("sam", **write_sam(tmp_path / "sam"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    prepared = teacher.prepare(image)
    resized = torch.from_numpy(ResizeLongestSide(80).apply_image(image)).permute(2, 0, 1).float()
    rows, columns = resized.shape[1:]
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    normal = (resized - mean[:, None, None]) / std[:, None, None]
    assert torch.equal(prepared.pixels, F.pad(normal, (0, 80 - columns, 0, 80 - rows)))
    assert prepared.valid == (rows / 80, columns / 80)
    processor = SamImageProcessor(size={"longest_edge": 80}, pad_size={"height": 80, "width": 80})
    library = processor(image, return_tensors="pt")["pixel_values"][0]
    assert (prepared.pixels - library).abs().max() < 1.01 / 57  # a grey level


def test_padding_of_sam_never_leaves_the_adapter(tmp_path):
    teacher = teachers.load("sam", **write_sam(tmp_path / "sam"))
    pixels = torch.randn(1, 3, 80, 80)
    raw = teacher.embed(pixels)["neck"]
    assert torch.equal(teacher.forward(pixels, torch.ones(1, 2))["neck"], raw)
    half = teacher.forward(pixels, torch.tensor([[0.5, 1.0]]))["neck"]
    expected = F.interpolate(raw[:, :, :5], (10, 10), mode="bilinear")
    torch.testing.assert_close(half, expected, atol=1e-5, rtol=0)


def test_sam_takes_half_precision_files_and_computes_in_float32(tmp_path):
    arguments = write_sam(tmp_path / "sam")
    exact = teachers.load("sam", **arguments)
    file = tmp_path / "sam" / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file)
    halved = teachers.load("sam", **arguments)
    assert {parameter.dtype for parameter in halved.network.parameters()} == {torch.float32}
    torch.testing.assert_close(halved([noise(50, 50)])["neck"], exact([noise(50, 50)])["neck"], atol=0.02, rtol=0)


def test_missing_weights_of_medsam_are_not_those_of_sam(tmp_path):
    for place in (tmp_path / "medsam_vit_b.pth", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"of MedSAM at .*; get medsam_vit_b\.pth from github") as error:
            teachers.load("sam", weights=place, variant="medsam")
        assert "facebook/sam" not in str(error.value)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is a pickle, .*`hf download wanglab/medsam-vit-base`"):
        teachers.load("sam", weights=tmp_path, variant="medsam")


def test_sam_says_which_arguments_do_not_apply(tmp_path):
    arguments = write_sam(tmp_path / "sam")
    with pytest.raises(ValueError, match=r"take images of 80 pixels, got image_size=352; leave it out"):
        teachers.load("sam", **arguments, image_size=352)
    with pytest.raises(ValueError, match=r"the neck of these SAM weights has no map of stride 16; choose from 8"):
        teachers.load("sam", **arguments, strides=[16])


def test_a_missing_built_in_teacher_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("teachers.sam.BUILTIN", tmp_path / "builtin")
    with pytest.raises(FileNotFoundError, match=r"no built-in teacher: looked for .*recipe=builtin_teacher"):
        teachers.load("sam", weights="builtin")


# timm


@pytest.mark.parametrize("model", ["test_efficientnet", "test_convnext", "test_vit"])
def test_timm_equals_timm_from_a_whole_checkpoint(tmp_path, model):
    import timm

    torch.manual_seed(0)
    whole = timm.create_model(model).eval()
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    teacher = teachers.load("timm", weights=tmp_path / "model.safetensors", model=model, image_size=160)
    pixels = torch.randn(2, 3, 160, 160)
    (level,) = teacher.identity["levels"]
    with torch.inference_mode():
        expected = whole.forward_intermediates(pixels, indices=[level], norm=True, intermediates_only=True)[0]
    assert (teacher.embed(pixels)["stride16"] - expected).abs().max() <= 1e-5
    assert teacher.licence == "unknown: see the weights"


def test_known_weights_teach_under_their_licence_whatever_their_file_is_called(tmp_path, monkeypatch):
    arguments = WRITERS["timm"](tmp_path / "weights")
    identity = teachers.load("timm", **arguments).identity
    monkeypatch.setattr(
        known, "PUBLISHED", (replace(known.PUBLISHED[0], sha256=identity["weights"], licence="CC-BY-NC-4.0"),)
    )
    teacher = teachers.load("timm", **arguments)
    assert teacher.licence == "CC-BY-NC-4.0" and teacher.identity == identity


def test_timm_levels_and_strides_name_the_same_maps(tmp_path):
    import timm

    arguments = write_timm(tmp_path / "timm")
    by_stride = teachers.load("timm", **arguments)
    by_level = teachers.load("timm", **{**arguments, "strides": None, "levels": (3, 2)})
    assert by_stride.identity == by_level.identity
    assert by_stride.spec.names == ("stride8", "stride16")
    image = noise(70, 50)
    assert torch.equal(by_stride([image])["stride16"], by_level([image])["stride16"])
    vit = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit", features_only=True).state_dict(), vit)
    tokens = teachers.load("timm", weights=vit, model="test_vit", levels=(3, 5), norm=False)
    assert tokens.spec.names == ("stride16_level3", "stride16_level5")


def test_a_timm_folder_says_itself_which_backbone_and_licence_it_is(tmp_path):
    import timm

    network = timm.create_model("test_resnet", num_classes=7)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 96, 96], "license": "mit"}
    config = {"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": settings}
    (tmp_path / "config.json").write_text(json.dumps(config))
    teacher = teachers.load("timm", weights=tmp_path)
    assert teacher.licence == "mit"
    assert teacher.preprocessing.size == 96
    assert teacher.preprocessing.mean == (127.5, 127.5, 127.5)
    with pytest.raises(ValueError, match=r"describes 'test_resnet', got model=resnet18; leave model out"):
        teachers.load("timm", weights=tmp_path, model="resnet18")


def test_a_timm_folder_names_arguments_of_the_network_alone(tmp_path):
    """Another argument of timm's would open a further file, which may be a pickle with code in it."""
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 96, 96]}
    (tmp_path / "model.safetensors").write_bytes(b"")
    for change, message in [
        ({"model_args": {"checkpoint_path": "extra.pth"}}, "model_args has checkpoint_path; expected only arguments"),
        ({"model_args": {"pretrained": True, "num_classes": 3}}, "model_args has num_classes, pretrained"),
        ({"model_args": ["img_size"]}, "model_args is not a mapping"),
        ({"pretrained_cfg": {"std": settings["std"]}}, "lacks input_size, mean; add what the weights expect"),
    ]:
        config = {"architecture": "test_resnet", "pretrained_cfg": settings, **change}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=message):
            teachers.load("timm", weights=tmp_path)


def test_an_argument_that_the_network_does_not_take_is_told(tmp_path):
    import timm

    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "model.safetensors")
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 96, 96]}
    config = {"architecture": "test_resnet", "pretrained_cfg": settings, "model_args": {"foo": 1}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"timm's 'test_resnet' does not take model_args \{'foo': 1\}"):
        teachers.load("timm", weights=tmp_path)


def test_timm_says_what_it_does_not_know(tmp_path):
    arguments = write_timm(tmp_path / "timm")
    for change, message in [
        ({"model": "tf_efficientnet_b00"}, r"no backbone 'tf_efficientnet_b00'; did you mean tf_efficientnet_b0"),
        ({"model": "test_efficientnet.r1"}, r"no weights 'r1' for 'test_efficientnet'; choose from r160_in1k"),
        ({"model": None}, r"does not say which backbone it belongs to.*model=tf_efficientnet_b0"),
        ({"model": "test_vit", "strides": (16,)}, r"is not the weights of .*'test_vit'"),
        ({"strides": (12,)}, r"has no map of stride 12; choose from 2, 4, 8, 16, 32"),
        ({"strides": None, "levels": (7,)}, r"levels of strides 2, 4, 8, 16, 32, numbered 0 to 4, got levels=\[7\]"),
        ({"levels": (2,)}, r"expected levels or strides, got levels=\[2\] and strides=\[8, 16\]"),
        ({"image_size": 100}, r"multiple of 16.*got 100; choose 96 or 112"),
        ({"weights": "hub", "model": None}, r"weights=hub needs the name of a backbone"),
    ]:
        with pytest.raises(ValueError, match=message):
            teachers.load("timm", **{**arguments, **change})
    with pytest.raises(FileNotFoundError, match=r"`hf download timm/tf_efficientnet_b0\.ns_jft_in1k`"):
        teachers.load("timm", weights="hub", model="tf_efficientnet_b0")


def test_the_real_efficientnet_runs_as_timm_runs_it_and_no_deeper_than_asked(shared):
    import timm

    file = shared / "weights" / "tf_efficientnet_b0.tracer.safetensors"
    official = timm.create_model("tf_efficientnet_b0", features_only=True, out_indices=(0, 1, 2, 3, 4)).eval()
    official.load_state_dict(load_file(file), strict=True)
    teacher = teachers.load("timm", weights=file, model="tf_efficientnet_b0", strides=(8, 16), image_size=128)
    prepared = teacher.prepare(noise(150, 200))
    maps = teacher.forward(prepared.pixels[None], torch.tensor([prepared.valid]))
    with torch.inference_mode():
        _, _, eighth, sixteenth, _ = official(prepared.pixels[None])
    torch.testing.assert_close(maps["stride8"], eighth, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps["stride16"], sixteenth, atol=1e-4, rtol=1e-4)
    assert [(entry.channels, entry.grid) for entry in teacher.spec.maps] == [(40, (16, 16)), (112, (8, 8))]
    assert len(teacher.network.blocks) < len(official.blocks)


# Network


def test_a_published_student_teaches_what_it_sees_and_says(tmp_path):
    arguments = WRITERS["student"](tmp_path / "student")
    teacher = teachers.load("student", **arguments, strides=(8,))
    student, image = students.load(tmp_path / "student"), noise(70, 90)
    assert [(entry.name, entry.channels, entry.grid) for entry in teacher.spec] == [
        ("stride8", 32, (12, 12)),
        ("mask", 1, (24, 24)),
    ]
    pixels = teacher.prepare(image).pixels[None]
    maps = teacher([image])
    with torch.no_grad():
        torch.testing.assert_close(maps["stride8"], student.features(pixels)[3], atol=1e-5, rtol=1e-5)
        coarse = F.avg_pool2d(student(pixels), 4).clamp(-LOGIT_CLIP, LOGIT_CLIP)
        torch.testing.assert_close(maps["mask"], coarse, atol=1e-4, rtol=1e-4)
    with pytest.raises(
        ValueError,
        match=(
            r"the teacher \S+student \(student 'unet'\) has no map of stride 32; choose from 1, 2, 4, 8, 16, as in "
            r"teachers\.NAME\.strides=\[8,16\]$"
        ),
    ):
        teachers.load("student", **arguments, strides=(32, 16, 8))
    with pytest.raises(ValueError, match="expected image_size to be a multiple of 16, so that cells cover the image"):
        teachers.load("student", **arguments, image_size=88)


def test_a_student_of_the_hub_brings_its_record_and_its_licence(tmp_path, monkeypatch):
    zoo, snapshot = Path(students.place_of("zoo:polyp-small")), tmp_path / "snapshot"
    snapshot.mkdir()

    def fetched(hub_id, names, *, revision=None):
        assert hub_id == "someone/student"
        return [Path(shutil.copy(zoo / name, snapshot)) for name in names]

    monkeypatch.setattr(import_module("teachers.weights.locate"), "download", fetched)
    teacher = teachers.load("student", weights="someone/student")
    here = teachers.load("student", weights="zoo:polyp-small")
    assert teacher.identity == here.identity
    assert len(teacher.identity["labelled"]) == 1305
    assert teacher.licence == here.licence


def test_a_student_of_several_classes_has_no_soft_mask(tmp_path):
    save_student(tmp_path, students.create("unet", width=4, classes=3), classes=3)
    assert teachers.load("student", weights=tmp_path).spec.names == ("stride16", "stride8")


@pytest.mark.parametrize("name", ["microaunet", "malunet"])
def test_of_two_levels_at_one_stride_the_deepest_teaches(tmp_path, name):
    student = students.create(name, width=4).eval()
    save_student(tmp_path, student, student=name, image_size=128)
    teacher = teachers.load("student", weights=tmp_path, strides=[32])
    assert teacher.network.levels == [5] and teacher.spec["stride32"].channels == student.channels[5]
    assert teacher([noise(70, 90)])["stride32"].shape == (1, student.channels[5], 4, 4)


def test_a_network_that_pads_its_pixels_is_refused_not_squeezed_into_the_grid(tmp_path):
    save_student(tmp_path, students.create("microaunet", width=4), student="microaunet", image_size=336)
    with pytest.raises(ValueError, match=r"image_size to be a multiple of 32, .*, got 336; choose 320 or 352"):
        teachers.load("student", weights=tmp_path, strides=[16])

    class Own(teachers.base.Teacher):
        @classmethod
        def load(cls, weights, choice):
            raise NotImplementedError

        def maps(self, pixels):
            return {"padded": self.network(pixels)}

    spec = FeatureSpec((MapSpec("padded", 4, (12, 12), stride=16),))
    own = Own(
        "own",
        torch.nn.Conv2d(3, 4, 3, stride=16, padding=1),
        spec=spec,
        preprocessing=SquareResize(200, IMAGENET_MEAN, IMAGENET_STD),
        facts={},
        licence="mit",
    )
    with pytest.raises(
        ValueError, match=r"has 13 x 13 cells of stride 16, which cover 208 x 208 .* 200 x 200; .* 208,"
    ):
        own([noise(40, 50)])


def test_a_published_student_s_config_that_is_not_whole_is_told(tmp_path):
    students.create("unet", width=4).save_pretrained(tmp_path, config={"width": 4, "student": "unet"})
    with pytest.raises(ValueError, match=r"config\.json of .*: expected image_size to be a whole number .*, got null"):
        teachers.load("student", weights=tmp_path)


def test_code_that_comes_with_a_published_student_is_not_run_to_teach(tmp_path, monkeypatch):
    save_student(tmp_path, students.create("unet", width=4), student="brought:Net")
    (tmp_path / "brought.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match=r"is a student of class 'brought:Net', whose code came with it and is not run"
    ):
        teachers.load("student", weights=tmp_path)


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (
            lambda map_: {"layer4": map_},
            r"maps of teacher 'own' must return a dict .* for each of layer3, got layer4 \(",
        ),
        (lambda map_: map_, r"for each of layer3, got a Tensor"),
        (lambda map_: {"layer3": map_.flatten(2)}, r"got layer3 \(1, 4, 16\)"),
    ],
)
def test_an_adapter_that_returns_something_else_is_told(returned, sentence):
    class Own(teachers.base.Teacher):
        @classmethod
        def load(cls, weights, choice):
            raise NotImplementedError

        def maps(self, pixels):
            return returned(self.network(pixels))

    with pytest.raises(ValueError, match=sentence):
        own_teacher(Own)([noise(40, 50)])


def test_a_network_whose_maps_are_not_those_of_the_spec_is_told():
    class Own(teachers.base.Teacher):
        @classmethod
        def load(cls, weights, choice):
            raise NotImplementedError

    with pytest.raises(
        ValueError, match=r"network of teacher 'own' must return a list .* for layer3 .*, got one tensor"
    ):
        own_teacher(Own)([noise(40, 50)])


def own_teacher(kind):
    return kind(
        "own",
        torch.nn.Conv2d(3, 4, 16, stride=16),
        spec=FeatureSpec((MapSpec("layer3", 4, (4, 4), stride=16),)),
        preprocessing=SquareResize(64, IMAGENET_MEAN, IMAGENET_STD),
        facts={},
        licence="mit",
    )


def test_options_that_a_teacher_has_not_are_refused_one_by_one():
    names = teachers.choice.Choice._fields
    teachers.choice.require_unset(teachers.choice.Choice(), *names, teacher="own")
    for name, value in (("norm", False), ("strides", (8,)), ("model", "x")):
        choice = teachers.choice.Choice(**{name: value})
        with pytest.raises(ValueError, match=rf"teacher 'own' has no option {name}: leave out {name}=.{{1,5}}$"):
            teachers.choice.require_unset(choice, *names, teacher="own")


def test_timm_teachers_of_other_arguments_have_another_identity(tmp_path):
    import timm

    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "model.safetensors")
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 96, 96]}
    identities = []
    for extra in ({}, {"model_args": {}}, {"model_args": {"drop_rate": 0.1}}):
        config = {"architecture": "test_resnet", "pretrained_cfg": settings, **extra}
        (tmp_path / "config.json").write_text(json.dumps(config))
        identities.append(teachers.load("timm", weights=tmp_path).identity)
    assert identities[0] == identities[1] != identities[2]
