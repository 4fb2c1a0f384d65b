"""The contract that every student passes; a new member of the registry is covered with no new test."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import students
from students import STUDENTS, create
from students.contract import check_contract
from students.onnx import fuse_for_inference

SMALL_HIERA = {"width": 16, "blocks": [1, 1, 2, 1], "everywhere": [3], "windows": [8, 4, 4, 2]}
OPTIONS = {
    "sam2_adapted": {"trunk": SMALL_HIERA},
    "sam_vit": {"width": 32, "depth": 2, "image_size": 64, "patch": 8, "neck": 8},
    "timm_unet": {"backbone": "test_efficientnet"},
    "pranet": {"backbone": "test_efficientnet"},
}
FIXED_SIZE = {"sam_vit"}
SIZES = {"microaunet": 128}  # the smallest it takes, where 64 is too small
NAMES = tuple(STUDENTS)


def build(name: str, classes: int = 1) -> students.Student:
    torch.manual_seed(0)
    return create(name, **{"width": 4, "classes": classes, **OPTIONS.get(name, {})}).eval()


def pictures(name: str, batch: int) -> torch.Tensor:
    side = SIZES.get(name, 64)
    return torch.randn(batch, 3, side, side)


@pytest.mark.parametrize("name", NAMES)
def test_a_stride_means_its_deepest_map(name):
    student = build(name)
    for stride in student.strides:
        level = student.level_of(stride)
        assert student.strides[level] == stride
        assert stride not in student.strides[level + 1 :]
    with pytest.raises(ValueError, match="the student has no map of stride 3; choose from"):
        student.level_of(3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [1, 3])
def test_logits_have_the_size_of_the_image(name, classes):
    student, side = build(name, classes), SIZES.get(name, 64)
    sizes = [(side, side)] if name in FIXED_SIZE else [(side, side), (side - 19, side + 6), (side - 31, side - 30)]
    for size in sizes:
        assert student(torch.randn(2, 3, *size)).shape == (2, classes, *size)


@pytest.mark.parametrize("name", NAMES)
def test_the_declared_pyramid_is_true(name):
    student = build(name)
    images = pictures(name, 1)
    maps = student.features(images)
    assert len(maps) == len(student.channels) == len(student.strides)
    for feature, channels, stride in zip(maps, student.channels, student.strides, strict=True):
        assert feature.shape == (1, channels, images.shape[-2] // stride, images.shape[-1] // stride)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_and_belongs_to_a_part_that_can_be_frozen(name):
    student = build(name).train()
    images = pictures(name, 2)
    logits = student.heads(student.features(images), (images.shape[-2], images.shape[-1]))
    sum(head.square().mean() for head in logits).backward()
    assert all(p.grad is not None for p in student.parameters() if p.requires_grad)
    parts = [p for part in (student.encoder, student.decoder, student.head) for p in part.parameters()]
    assert {id(p) for p in parts} == {id(p) for p in student.parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_student_loads_in_one_line_with_equal_output(name, tmp_path):
    student = build(name)
    options = {"width": 4, "classes": 1, **OPTIONS.get(name, {})}
    student.save_pretrained(tmp_path, config={**options, "student": name})
    images = pictures(name, 1)
    assert torch.equal(students.load(tmp_path)(images), student(images))


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_changes_nothing(name):
    # in float64: a group norm over a map that is all but constant multiplies rounding by 300, whatever the layout
    student, images = build(name).double(), pictures(name, 2).double()
    expected = student(images)
    found = student.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    assert (found - expected).abs().max() < 1e-7


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_equals_its_part_of_a_larger_batch(name):
    student, images = build(name), pictures(name, 3)
    assert (student(images)[1:2] - student(images[1:2])).abs().max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_and_the_same_images_give_the_same_logits(name):
    images = pictures(name, 2)
    assert torch.equal(build(name)(images), build(name)(images))


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_stays_near_float32(name):
    student, images = build(name), pictures(name, 1)
    expected = student(images)
    found = student.bfloat16()(images.bfloat16())
    assert found.dtype == torch.bfloat16 and found.isfinite().all()
    assert (found.float() - expected).abs().mean() < 0.1 * max(1.0, expected.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_torch_export_gives_the_same_program(name):
    student, images = build(name), pictures(name, 1)
    program = torch.export.export(student, (images,)).module()
    assert torch.allclose(program(images), student(images), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_the_network_that_is_exported_gives_the_same_logits(name):
    side = SIZES.get(name, 64)
    size = (side, side) if name in FIXED_SIZE else (side + 37, side + 70)
    student = build(name, classes=2)
    with torch.no_grad():
        for norm in (part for part in student.modules() if isinstance(part, (nn.GroupNorm, nn.BatchNorm2d))):
            norm.weight.uniform_(-1.5, 1.5), norm.bias.normal_()
    images = torch.randn(2, 3, *size)
    expected, found = student(images), fuse_for_inference(student)(images)
    assert (found - expected).abs().max() < 1e-4 * max(1.0, expected.abs().max())


def test_unet_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in create("unet", width=64).parameters()) == 31_043_521


def test_pranet_is_its_parts(monkeypatch):
    assert sum(p.numel() for p in create("pranet", width=32).parameters()) == 30_500_364
    shallow = type("Shallow", (nn.Identity,), {"strides": (2, 4, 8), "channels": (4, 4, 4)})
    monkeypatch.setattr("students.pranet.Backbone", shallow)
    with pytest.raises(ValueError, match="ends with strides 2, 4, 8, but pranet needs 8, 16 and 32"):
        create("pranet", width=4, backbone="shallow")


@pytest.mark.parametrize("name", NAMES)
def test_the_heads_that_training_supervises_are_logits_of_the_image(name):
    student, images = build(name, classes=3), pictures(name, 1)
    size = tuple(images.shape[-2:])
    heads = student.heads(student.features(images), size)
    assert all(head.shape == (1, 3, *size) for head in heads)
    assert len(heads) == {"pranet": 4, "sam2_adapted": 3}.get(name, 1)


def test_a_fault_in_a_file_of_ones_own_is_told_as_what_it_is(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slip_of_syntax.py").write_text("class Net(:\n")
    (tmp_path / "slip_of_type.py").write_text(
        "from students import Student\n\n\nclass Net(Student):\n    def __init__(self, width, classes=1):\n"
        "        super().__init__()\n        self.channels = (4, 4) + 3\n\n    def decode(self, features, size):\n"
        "        return features[0]\n"
    )
    with pytest.raises(ValueError, match=r"cannot be imported: .*slip_of_syntax.py, line 1"):
        create("slip_of_syntax:Net", width=4)
    with pytest.raises(ValueError, match="No module named 'no_such'; its file must lie where the command is called"):
        create("no_such:Net", width=4)
    with pytest.raises(TypeError, match="can only concatenate tuple"):
        create("slip_of_type:Net", width=4)
    with pytest.raises(ValueError, match=r"does not take these arguments .*; it takes width, classes"):
        create("slip_of_type:Net", width=4, depth=2)


def test_deep_supervision_asks_every_head_of_unetpp():
    student = create("unetpp", width=2, deep_supervision=True).eval()
    images = torch.randn(1, 3, 32, 32)
    heads = student.heads(student.features(images), (32, 32))
    assert len(heads) == 4
    assert torch.allclose(torch.stack(heads).mean(0), student(images), atol=1e-6)


def test_pranet_corrects_its_global_mask_where_it_predicts_nothing():
    decoder = build("pranet").decoder
    features = torch.randn(1, decoder.reverse[0].correct[0][0].in_channels, 8, 8)
    sure = torch.full((1, 1, 8, 8), 40.0)
    unsure = torch.full((1, 1, 8, 8), -40.0)
    attention = decoder.reverse[0].eval()
    constant = attention(torch.zeros_like(features), sure) - sure
    assert torch.allclose(attention(features, sure) - sure, constant, atol=1e-5), "what is found is left alone"
    assert not torch.allclose(attention(features, unsure) - unsure, constant, atol=1e-3)


def test_an_unknown_student_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown student 'unett'; choose from .*did you mean 'unet'"):
        create("unett", width=4)


def test_a_class_that_is_no_student_is_refused():
    with pytest.raises(ValueError, match=r"must be a subclass of students\.base\.Student"):
        create("torch.nn:Linear", width=4)
    with pytest.raises(ValueError, match=r"student 'no_such_module:Net' cannot be imported"):
        create("no_such_module:Net", width=4)


class OwnNet(students.Student):
    def __init__(self, *, width: int = 4, classes: int = 1) -> None:
        super().__init__()
        self.channels, self.strides, self.classes = (width,), (1,), classes
        self.encoder, self.decoder, self.head = (
            nn.Conv2d(3, width, 3, padding=1),
            nn.Identity(),
            nn.Conv2d(width, classes, 1),
        )

    def features(self, images):
        return (self.encoder(images),)

    def decode(self, features, size):
        return self.head(self.decoder(features[0]))


def test_a_class_of_the_user_s_own_is_found_by_name():
    assert isinstance(create(f"{__name__}:OwnNet", width=2), OwnNet)


def test_a_class_of_the_user_s_own_passes_the_contract_or_is_refused():
    check_contract(create(f"{__name__}:OwnNet", width=2), image_size=33)
    for change, message in (
        ({"strides": (2,)}, r"declares channels \(4,\) at strides \(2,\).* but features returns \[\(4, 33\)\]"),
        ({"classes": 2}, r"returns logits of shape \(2, 1, 33, 33\), but expected \(2, 2, 33, 33\)"),
        ({"extra": nn.Linear(1, 1)}, r"parameters outside of encoder, decoder and head, the first is extra.weight"),
        ({"encoder": nn.Conv2d(1, 4, 3)}, r"student OwnNet fails on images \(2, 3, 33, 33\)"),
    ):
        student = OwnNet()
        for name, value in change.items():
            setattr(student, name, value)
        with pytest.raises(ValueError, match=message):
            check_contract(student, image_size=33)
    student = OwnNet()
    del student.decoder, student.strides
    with pytest.raises(ValueError, match=r"student OwnNet lacks decoder, strides; a student declares encoder"):
        check_contract(student, image_size=33)


def test_maps_of_the_padded_image_are_as_declared():
    check_contract(create("unet", width=2), image_size=250)  # 256 within


def test_what_a_class_inherits_counts_as_declared():
    class Family(OwnNet):
        strides, channels = (1,), (4,)

    class Member(Family):
        def __init__(self):
            super().__init__()
            del self.__dict__["strides"], self.__dict__["channels"]

    check_contract(Member(), image_size=33)


def test_the_encoder_of_sam_s_kind_starts_another_one(tmp_path):
    options = {"depth": 1, "image_size": 32, "patch": 8, "neck": 8}
    trained, fresh = (create("sam_vit", width=32, **options) for _ in range(2))
    trained.export_encoder(tmp_path)
    fresh.load_encoder(tmp_path / "model.safetensors")
    found = fresh.encoder.state_dict()
    assert all(torch.equal(found[name], value.half().float()) for name, value in trained.encoder.state_dict().items())


def test_an_encoder_that_is_missing_or_has_more_tensors_is_refused(tmp_path):
    student = create("unet", width=2)
    with pytest.raises(FileNotFoundError, match=r"no encoder of student UNet at student\.encoder=.*mistyped"):
        student.load_encoder(tmp_path / "mistyped.safetensors")
    student.export_encoder(tmp_path)
    file = tmp_path / "encoder.safetensors"
    save_file({**load_file(file), "foreign": torch.ones(1)}, file)
    with pytest.raises(ValueError, match=r"1 of \d+ tensors are missing, left over .*, the first is foreign"):
        student.load_encoder(file)
