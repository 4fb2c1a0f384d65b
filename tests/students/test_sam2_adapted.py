"""SAM 2 fine-tuned: the trunk stays, adapters and decoder learn, what is saved is what was trained."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_run import recipe_of, run_of
from small_teachers import noise, write_sam2

import students
import teachers
from distill.config.schedule import Span
from distill.config.schema import OptimiserRecipe, StageRecipe, StudentRecipe
from distill.distillation.criterion import compute_losses
from distill.inference.model import InferenceModel
from distill.publishing.student import LEARNED, save_student
from distill.runs.build import create_student
from distill.runs.weights import load_student
from distill.training.train import set_frozen, train
from students.hiera import TRUNKS

TRUNK = {"width": 16, "blocks": [1, 1, 2, 1], "everywhere": [3], "windows": [8, 4, 4, 2], "background": 4}
PIXELS = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))


def build(**options):
    torch.manual_seed(0)
    return students.create("sam2_adapted", width=8, trunk=TRUNK, **options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_sam2(tmp_path_factory.mktemp("sam2") / "vision")["weights"]


@pytest.fixture(scope="module")
def trained(weights, tmp_path_factory):
    """A run that has trained the adapters and the decoder on the discs, alone."""
    recipe = replace(
        recipe_of(),
        student=StudentRecipe(name="sam2_adapted", width=8, options={"trunk": TRUNK}, encoder=str(weights)),
        optimiser=OptimiserRecipe(batch_size=4, learning_rate=1e-2, weight_decay=0.1, ema=0.5),
        stages={"task": StageRecipe(steps=4, losses={"structure": 1.0})},
    )
    run = run_of(recipe, tmp_path_factory.mktemp("trained") / "run")
    train(run)
    return run


def test_a_fresh_one_sees_what_sam2_sees(weights):
    student = build().eval()
    student.load_encoder(weights)
    official = teachers.load("sam2", weights=weights, levels=(0, 1, 2, 3)).embed(PIXELS)
    with torch.inference_mode():
        found = student.features(PIXELS)
    for level, value in enumerate(found):
        assert value.std() > 0.1
        assert (value - official[f"stage{level}"]).abs().max() <= 1e-5


def test_weights_of_the_whole_model_are_read_too(weights, tmp_path):
    whole = {f"vision_encoder.{name}": value for name, value in load_file(weights / "model.safetensors").items()}
    save_file({**whole, "no_memory_embedding": torch.zeros(1, 1, 32)}, tmp_path / "model.safetensors")
    one, other = build(), build()
    one.load_encoder(weights), other.load_encoder(str(tmp_path / "model.safetensors"))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_encoder_published_alone_starts_another_one_adapters_included(tmp_path):
    trained, fresh = build(), build()
    for parameter in trained.encoder.parameters():
        torch.nn.init.normal_(parameter)
    trained.export_encoder(tmp_path)
    fresh.load_encoder(tmp_path / "encoder.safetensors")
    found = fresh.encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in trained.encoder.state_dict().items())


def test_only_adapters_and_decoder_get_gradients():
    student = build()
    torch.nn.init.normal_(student.encoder.adapters[0].up.weight)  # while it is zero, nothing passes to W_down
    set_frozen(student, [])
    logits = student.heads(student.features(PIXELS), (128, 128))
    span = Span("task", StageRecipe(steps=1, losses={"structure": 1.0}), 0, 1, 1, 0)
    batch = {"mask": (noise(128, 128)[None, ..., 0].repeat(2, 0) > 90).astype("uint8")}
    terms = compute_losses(span, (), logits=logits, projected={}, batch={"mask": torch.from_numpy(batch["mask"])})
    terms["structure"].backward()
    assert len(logits) == 3
    assert not any(p.requires_grad or p.grad is not None for p in student.encoder.trunk.parameters())
    learning = [p for part in (student.encoder.adapters, student.decoder, student.head) for p in part.parameters()]
    assert all(p.grad is not None for p in learning)
    assert student.encoder.adapters[0].down.weight.grad.abs().sum() > 0
    assert all(adapter.up.weight.grad.abs().sum() > 0 for adapter in student.encoder.adapters)
    set_frozen(student, ["encoder"])
    assert not any(p.requires_grad for p in student.encoder.parameters())


def test_training_leaves_the_trunk_as_it_was_to_the_bit(weights, trained):
    before, after = create_student(trained.recipe).state_dict(), load_file(trained.weights)
    trunk = {name for name in before if name.startswith("encoder.trunk.")}
    official = load_file(weights / "model.safetensors")
    assert all(torch.equal(after[name], before[name]) for name in trunk)
    assert all(torch.equal(after[name], official[name.replace("encoder.trunk", "backbone")]) for name in trunk)
    learned = {name for name in before if name.endswith("weight")} - trunk
    assert all(not torch.equal(after[name], before[name]) for name in learned)


def test_what_is_saved_reloads_bit_equal_and_teaches(trained, tmp_path):
    student = load_student(trained)
    save_student(trained, InferenceModel(student, image_size=64), tmp_path)
    (tmp_path / LEARNED).write_text(json.dumps({"labelled": ["0" * 64]}))
    again = students.load(tmp_path)
    assert again.state_dict().keys() == student.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in student.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(again(PIXELS), student(PIXELS))
    teacher = teachers.load("student", weights=tmp_path, strides=(8, 16))
    assert [(entry.name, entry.channels) for entry in teacher.spec] == [("stride16", 64), ("stride8", 32), ("mask", 1)]
    assert teacher.identity["labelled"] == ["0" * 64]
    image = noise(50, 70)
    pixels = teacher.prepare(image).pixels[None]
    with torch.inference_mode():
        expected = student.features(pixels)[1]
    torch.testing.assert_close(teacher([image])["stride8"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", TRUNKS)
def test_every_published_trunk_has_the_sizes_of_another_author_s(size):
    import timm

    with torch.device("meta"):
        student = students.create("sam2_adapted", width=64, trunk=size)
        other = timm.create_model(f"sam2_hiera_{size}", num_classes=0)
    shapes = sorted(tuple(v.shape) for name, v in other.state_dict().items() if not name.startswith("head."))
    trunk = student.encoder.trunk
    assert sorted(tuple(value.shape) for value in trunk.state_dict().values()) == shapes
    assert [block.window_size for block in trunk.blocks] == [block.window_size[0] for block in other.blocks]
    heads = [block.attn.num_heads for block in other.blocks]
    assert [block.attn.num_attention_heads for block in trunk.blocks] == heads


def test_at_hiera_large_one_parameter_in_eighty_learns():
    with torch.device("meta"):
        student = students.create("sam2_adapted", width=64, trunk="large")
    counts = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in (
            ("trunk", student.encoder.trunk),
            ("adapters", student.encoder.adapters),
            ("top", torch.nn.ModuleList([student.decoder, student.head])),
        )
    }
    assert counts == {"trunk": 212_149_296, "adapters": 1_714_416, "top": 880_099}
    assert sum(p.numel() for p in student.parameters() if p.requires_grad) == 2_594_515


def test_what_is_no_trunk_or_another_one_is_refused(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"trunk is 'huge', but must be one of tiny, small, base_plus, large, or desc"):
        students.create("sam2_adapted", width=8, trunk="huge")
    student = students.create("sam2_adapted", width=8, trunk={**TRUNK, "width": 8})
    before = {name: value.clone() for name, value in student.state_dict().items()}
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((weights / "model.safetensors").read_bytes()[:-9])
    for place, error, message in [
        (
            weights,
            ValueError,
            r"the first is pos_embed, expected \(1, 8, 4, 4\), got \(1, 16, 4, 4\); choose the trunk",
        ),
        (
            tmp_path / "other.safetensors",
            ValueError,
            r"holds no trunk of SAM 2: expected .*, got layer\.weight",
        ),
        (tmp_path / "cut.safetensors", ValueError, r"is not a whole safetensors file .*; download it again"),
        ("sam2.1_hiera_large.pt", ValueError, r"is an original checkpoint, but .*student\.encoder=facebook/sam2\.1"),
        (tmp_path, FileNotFoundError, r"looked for a file at .*model\.safetensors; get them .*`hf download facebook"),
        (
            "nobody/none",
            FileNotFoundError,
            r"and on the hub, which answered: .*; get them on a machine with network access by",
        ),
    ]:
        with pytest.raises(error, match=message):
            student.load_encoder(place)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
