"""OneFormer and Mask2Former as transformers computes them: pixel decoder, and soft masks by their own rule."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_teachers import WRITERS, noise, random_pixels
from torch.nn import functional as F

import teachers
from cache.spec import LOGIT_CLIP
from distill.run import main
from teachers.semantic import TASK, class_scores, soft_mask, task_tokens

BOTH = pytest.mark.parametrize("name", ["mask2former", "oneformer"])
PIXELS = random_pixels(96)


def library_of(name, folder):
    """The output of transformers for the same pixels, by its own loader."""
    from transformers import Mask2FormerForUniversalSegmentation, OneFormerForUniversalSegmentation

    kind = OneFormerForUniversalSegmentation if name == "oneformer" else Mask2FormerForUniversalSegmentation
    network = kind.from_pretrained(folder).eval()
    with torch.inference_mode():
        if name == "mask2former":
            return network(PIXELS, output_hidden_states=True)
        tasks = torch.tensor([[*TASK, *[0] * 70]] * 2)
        return network(PIXELS, task_inputs=tasks, output_hidden_states=True)


def states_of(name, said):
    """The pixel decoder's states from the outputs of the library, finest first."""
    if name == "mask2former":
        return [said.pixel_decoder_last_hidden_state, *reversed(said.pixel_decoder_hidden_states)]
    fine, *coarse = said.pixel_decoder_hidden_states
    return [fine, *reversed(coarse)]


@BOTH
def test_the_pixel_decoder_s_states_are_those_of_transformers(tmp_path, name):
    arguments = WRITERS[name](tmp_path)
    said = library_of(name, tmp_path)
    for classes in (None, ("polyp",)):
        chosen = {"strides": (32, 4, 16, 8), "image_size": 96, "classes": classes}
        teacher = teachers.load(name, **{**arguments, **chosen})
        names = ("pixel", "pixel8", "pixel16", "pixel32", *(("mask",) if classes else ()))
        assert teacher.spec.names == names
        assert [entry.stride for entry in teacher.spec][:4] == [4, 8, 16, 32]
        maps = teacher.embed(PIXELS)
        for key, expected in zip(names, states_of(name, said), strict=False):
            assert expected.std() > 0.1
            assert (maps[key] - expected).abs().max() <= 1e-5


@BOTH
def test_the_soft_mask_is_the_share_of_the_official_scores(tmp_path, name):
    arguments = WRITERS[name](tmp_path)
    said = library_of(name, tmp_path)
    teacher = teachers.load(name, **{**arguments, "image_size": 96, "classes": ("polyp", "2")})
    assert teacher.identity["classes"] == [2, 4]
    found = teacher.embed(PIXELS)["mask"][:, 0]
    scores = official_scores(name, said, size=(24, 24))
    share = scores[:, [2, 4]].sum(1) / scores.sum(1)
    assert share.logit().std() > 0.1
    assert (found - share.logit().clamp(-LOGIT_CLIP, LOGIT_CLIP)).abs().max() <= 1e-4


def official_scores(name, said, *, size):
    """The scores of the processors of transformers, (N, K, *size)."""
    from transformers import Mask2FormerImageProcessor, OneFormerImageProcessor

    if name == "oneformer":
        processor = OneFormerImageProcessor.__new__(OneFormerImageProcessor)  # its own loading wants the hub
        return scored(processor, said, size)
    # Mask2Former's enlarges masks to 384 x 384 first, whatever the image: the rule is compared on masks of that size.
    large = F.interpolate(said.masks_queries_logits, size=(384, 384), mode="bilinear", align_corners=False)
    official = scored(Mask2FormerImageProcessor(), said, (384, 384))
    assert (class_scores(said.class_queries_logits, large) - official).abs().max() <= 1e-5
    return class_scores(said.class_queries_logits, said.masks_queries_logits)


def scored(processor, said, size):
    outputs = SimpleNamespace(
        class_queries_logits=said.class_queries_logits, masks_queries_logits=said.masks_queries_logits
    )
    found = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[size] * len(PIXELS), return_segmentation_scores=True
    )
    return torch.stack([entry.segmentation_scores for entry in found])


def test_a_soft_mask_is_positive_where_its_classes_outweigh_the_others():
    classes = torch.tensor([[[9.0, 0, 0, 0], [0, 9.0, 0, 0]]])  # two queries, three classes and none
    masks = torch.full((1, 2, 2, 4), -9.0)
    masks[0, 0, :, :2] = masks[0, 1, :, 2:] = 9
    said = soft_mask(classes, masks, [0], grid=(2, 4))
    assert (said[..., :2] > 5).all()
    assert (said[..., 2:] < -5).all()
    assert said.abs().max() <= LOGIT_CLIP
    assert torch.allclose(said, -soft_mask(classes, masks, [1, 2], grid=(2, 4)), atol=1e-4)
    assert soft_mask(classes, masks, [0], grid=(4, 8)).shape == (1, 1, 4, 8)


def test_the_task_is_what_oneformer_s_processor_makes_of_it():
    tokens = task_tokens(77)
    assert tokens.shape == (1, 77)
    assert tokens[0, :7].tolist() == [49406, 518, 10549, 533, 29119, 1550, 49407]
    assert not tokens[0, 7:].any()


@BOTH
def test_a_file_may_hold_what_only_training_or_older_versions_read(tmp_path, name):
    arguments = WRITERS[name](tmp_path)
    image = noise(50, 60)
    before = teachers.load(name, **arguments)([image])
    file = tmp_path / "model.safetensors"
    state = {key: value for key, value in load_file(file).items() if not key.startswith("criterion.")}
    block = "model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self."
    assert any(key.startswith(block) for key in state), "the names of the hub's files"
    state[f"{block}relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    state["model.text_mapper.prompt_ctx.weight"] = torch.zeros(2, 2)
    save_file(state, file)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "is_training": True}))
    for key, value in teachers.load(name, **arguments)([image]).items():
        assert torch.equal(value, before[key])


def test_a_class_of_mask2former_teaches_through_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BANDPASS_THREADS", "1")
    weights = WRITERS["mask2former"](tmp_path / "weights")["weights"]
    teacher = f"{{adapter: mask2former, weights: {weights}, image_size: 64, strides: [8], classes: [polyp]}}"
    words = ["recipe=sam_to_unet", f"home={tmp_path}", "do=extract,train", "image_size=64", f"teachers.sam={teacher}"]
    words += ["data.size=[64,64]", "data.images={train: 8, val: 1, test: 1}", "student.width=2", "precision=fp32"]
    words += ["cache={fidelity: 0.8, calibration: 8}", "optimiser.batch_size=4", "stages.boundary.epochs=0"]
    words += ["stages.semantic={steps: 2, losses: {imitate_mask: 1}}"]
    assert main(words) == 0
    (run,) = (tmp_path / "runs").iterdir()
    targets = json.loads((run / "train.json").read_text())["targets"]
    assert targets == ["sam/mask/mask/1", "sam/pixel8/low/16", "sam/pixel8/low/8"]
    assert main([*words, "teachers.sam.classes=[]"]) == 1


@BOTH
def test_what_does_not_fit_is_told_in_a_sentence(tmp_path, name):
    arguments = WRITERS[name](tmp_path)
    for change, message in [
        ({"classes": ("polip",)}, r"weights have no class 'polip'; did you mean 'polyp'\?"),
        ({"classes": ("7",)}, r"weights have no class '7'; its 5 begin with person, bench, sky, grass, polyp"),
        ({"classes": ("0", "1", "2", "3", "polyp")}, r"names all 5 classes .*whole image; leave one out"),
        ({"strides": (64,)}, r"pixel decoder has no state of stride 64; choose from 4, 8, 16, 32"),
        ({"image_size": 100}, r"multiple of 32, so that \w+'s cells cover the image, got 100; choose 96 or 128"),
        ({"levels": (1,)}, r"has no option levels: leave out levels=\(1,\); its maps are chosen by strides$"),
    ]:
        with pytest.raises(ValueError, match=message):
            teachers.load(name, **{**arguments, **change})
