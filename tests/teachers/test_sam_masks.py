"""SAM asked with boxes and points: equal to both official implementations, and made into one soft foreground."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_teachers import noise, random_pixels, randomise, small_sam, small_segment_anything, write_sam, write_timm

import teachers
from cache.spec import LOGIT_CLIP, MASK
from teachers.sam_masks import is_kept
from teachers.weights.names import renamed

BOXES = torch.tensor([[10.0, 12.0, 50.0, 44.0], [30.0, 5.0, 79.0, 60.0], [2.0, 2.0, 20.0, 70.0]])
POINTS = torch.tensor([[20.0, 30.0], [55.5, 41.0]])


def original_sam():
    """`segment_anything`'s own whole model of the same size."""
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    transformer = TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=8)
    prompts = PromptEncoder(embed_dim=32, image_embedding_size=(10, 10), input_image_size=(80, 80), mask_in_chans=16)
    decoder = MaskDecoder(transformer_dim=32, transformer=transformer, iou_head_hidden_dim=32)
    randomise(decoder, seed=7)
    for network in decoder.output_hypernetworks_mlps:
        network.layers[2].weight.data *= 20  # else the masks would be all but constant
    return Sam(small_segment_anything(), randomise(prompts, seed=6), decoder).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "weights"
    small_sam().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "sam_vit_b_01ec64.pth"
    torch.save(original_sam().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def teacher(folder):
    return teachers.load("sam", weights=folder).prompted("boxes")


def best_of_three(masks, quality):
    """Masks (N, 3, H, W) and qualities (N, 3): the best of each, and the maximum over all."""
    chosen = masks[torch.arange(len(masks)), quality.argmax(1)]
    return chosen.amax(0).clamp(-LOGIT_CLIP, LOGIT_CLIP)


@pytest.mark.parametrize("kind", ["boxes", "points"])
def test_the_answers_equal_transformers_on_the_same_weights_and_pixels(folder, teacher, kind):
    from transformers import SamModel

    official = SamModel.from_pretrained(folder).eval()
    pixels = torch.randn(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    given = {"input_boxes": BOXES[None]} if kind == "boxes" else {"input_points": POINTS[None, :, None]}
    with torch.inference_mode():
        said = official(pixel_values=pixels, multimask_output=True, **given)
    with torch.inference_mode():
        embedding = teacher.network.sam.vision_encoder(pixels).last_hidden_state
        masks, quality = teacher.network.masks(embedding, BOXES if kind == "boxes" else POINTS)
    index = said.iou_scores[0].argmax(1)
    expected = said.pred_masks[0][torch.arange(len(index)), index]
    assert expected.std() > 0.1
    assert (masks - expected).abs().max() <= 1e-5
    assert (quality - said.iou_scores[0].amax(1)).abs().max() <= 1e-5
    if kind == "boxes":
        foreground = teacher.embed(pixels, [BOXES])[MASK][0, 0]
        assert (foreground - best_of_three(said.pred_masks[0], said.iou_scores[0])).abs().max() <= 1e-5


def test_an_original_checkpoint_answers_as_segment_anything_s_predictor_does(file):
    from segment_anything import SamPredictor

    official, teacher = original_sam(), teachers.load("sam", weights=file).prompted("boxes")
    official.load_state_dict(torch.load(file))  # positions are drawn anew for each network
    image = noise(50, 70)
    image[12:30, 20:55] = 230
    predictor = SamPredictor(official)
    predictor.set_image(image)
    boxes = np.array([[18.0, 10.0, 57.0, 32.0], [3.0, 5.0, 30.0, 44.0]])
    found = []
    for box in boxes:
        _, quality, low = predictor.predict(box=box, multimask_output=True)
        found.append(torch.from_numpy(low[quality.argmax()]))
    expected = torch.stack(found).amax(0).clamp(-LOGIT_CLIP, LOGIT_CLIP)
    prepared = teacher.prepare(image)
    scaled = torch.from_numpy(boxes * ([80 / 70, 57 / 50] * 2)).float()  # segment_anything rounds the shorter side
    said = teacher.embed(prepared.pixels[None], [scaled])[MASK][0, 0]
    assert expected.std() > 0.1
    assert (said - expected).abs().max() <= 1e-5
    in_frame = teacher([image], [boxes / [70, 50, 70, 50]])[MASK]
    assert in_frame.shape == (1, 1, 40, 40)


def test_every_tensor_has_its_original_name(file):
    from transformers import SamConfig, SamModel

    with torch.device("meta"):
        network = SamModel(SamConfig())
    published = {name for name in torch.load(file) if not name.startswith("image_encoder.")}
    own = {name for name in network.state_dict() if name.startswith(("prompt_encoder.", "mask_decoder."))}
    assert {renamed(name, "sam_decoder") for name in own} == published


def test_a_mask_lies_where_its_box_does_whatever_the_image_s_ratio(teacher):
    """Of random weights the answer's place means nothing; that the padding is cut and the frame kept can be seen."""
    wide = noise(40, 80)
    square = np.zeros((80, 80, 3), np.uint8)
    square[:40] = wide
    box = np.array([[0.2, 0.2, 0.6, 0.7]])
    said = teacher([wide], [box])[MASK]
    pixels = teacher.prepare(wide).pixels[None]
    whole = teacher.embed(pixels, [torch.from_numpy(box * [80, 40, 80, 40]).float()])[MASK]
    top = torch.nn.functional.interpolate(whole[:, :, :20], (40, 40), mode="bilinear")
    torch.testing.assert_close(said[:, :, 2:-2], top[:, :, 2:-2], atol=1e-4, rtol=1e-4)


def test_no_box_is_no_foreground_and_points_that_find_nothing_say_nothing(teacher, monkeypatch):
    image = noise(60, 60)
    assert torch.equal(teacher([image], [np.zeros((0, 4))])[MASK], torch.full((1, 1, 40, 40), -LOGIT_CLIP))
    monkeypatch.setattr("teachers.sam_masks.QUALITY", 100.0)
    points = np.array([[0.25, 0.25], [0.75, 0.5]])
    assert torch.equal(teacher([image], [points])[MASK], torch.zeros(1, 1, 40, 40))


def test_of_points_the_sure_the_stable_and_the_small_are_kept():
    size = torch.full((4, 10, 10), -5.0)
    size[0, :5, :5] = size[1, :5, :5] = size[2, :9, :9] = 5.0
    size[3, :5, :5] = 0.5  # within the offset: unstable
    assert is_kept(size, torch.tensor([0.9, 0.5, 0.9, 0.9])).tolist() == [True, False, False, False]


def test_more_prompts_than_fit_in_one_pass_are_one_foreground(teacher, monkeypatch):
    image, corners = noise(60, 60), np.random.default_rng(0).uniform(0, 0.5, (7, 4))
    boxes = corners + np.array([0, 0, 0.5, 0.5])
    at_once = teacher([image], [boxes])[MASK]
    monkeypatch.setattr("teachers.sam_masks.TOGETHER", 3)
    torch.testing.assert_close(teacher([image], [boxes])[MASK], at_once, atol=1e-5, rtol=1e-5)


def test_batches_equal_single_images_and_the_other_maps_are_those_without_prompts(folder, teacher):
    plain = teachers.load("sam", weights=folder)
    images, prompts = [noise(50, 70), noise(70, 50, seed=1)], [np.array([[0.1, 0.1, 0.5, 0.6]]), np.zeros((0, 4))]
    together = teacher(images, prompts)
    for index in range(2):
        alone = teacher(images[index : index + 1], prompts[index : index + 1])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][index], value[0], atol=2e-5, rtol=2e-5)
    assert torch.equal(together["neck"], plain(images)["neck"])


def test_its_identity_says_how_it_is_prompted_and_it_is_frozen(folder, teacher):
    plain, other = teachers.load("sam", weights=folder), teachers.load("sam", weights=folder).prompted("grid")
    assert set(plain.identity) ^ set(teacher.identity) == {"prompts"}
    assert teacher.identity["prompts"] != other.identity["prompts"]
    assert teacher.spec.names == ("neck", MASK)
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    assert not teacher.network.training


def test_bfloat16_stays_near(folder):
    image, prompt = noise(60, 80), [np.array([[0.1, 0.2, 0.7, 0.9]])]
    exact = teachers.load("sam", weights=folder).prompted("boxes")([image], prompt)[MASK]
    rough = teachers.load("sam", weights=folder).prompted("boxes").to("cpu", torch.bfloat16)([image], prompt)[MASK]
    assert 0 < (rough - exact).norm() / exact.norm() < 0.1


def test_blocks_of_the_trunk_are_what_segment_anything_s_blocks_say(file):
    official = original_sam().image_encoder
    seen = []
    for block in official.blocks:
        block.register_forward_hook(lambda module, given, said: seen.append(said.permute(0, 3, 1, 2)))
    pixels = random_pixels(80)
    with torch.inference_mode():
        neck = official(pixels)
    teacher = teachers.load("sam", weights=file, levels=(0, 1), strides=(8,))
    said = teacher.embed(pixels)
    assert list(said) == ["block0", "block1", "neck"]
    for index in range(2):
        assert (said[f"block{index}"] - seen[index]).abs().max() <= 1e-5
    assert (said["neck"] - neck).abs().max() <= 1e-5
    assert teachers.load("sam", weights=file, levels=(1,)).spec.names == ("block1",)


def test_what_cannot_be_asked_is_refused(folder, file, tmp_path):
    with pytest.raises(ValueError, match=r"have blocks 0 to 1, got levels=\[2\]"):
        teachers.load("sam", weights=folder, levels=(2,))
    with pytest.raises(ValueError, match=r"the neck of these SAM weights has no map of stride 16; choose from 8"):
        teachers.load("sam", weights=folder, strides=(16,))
    with pytest.raises(ValueError, match=r"holds SAM's vision encoder alone, but prompts need its prompt encoder"):
        teachers.load("sam", **write_sam(tmp_path / "encoder")).prompted("boxes")
    with pytest.raises(ValueError, match=r"teacher 'timm' takes no prompts; leave prompts out, or use adapter=sam"):
        teachers.load("timm", **write_timm(tmp_path / "timm")).prompted("boxes")
    with pytest.raises(ValueError, match="needs a prompt for each image, got none"):
        teachers.load("sam", weights=folder).prompted("boxes")([noise(40, 40)])
    with pytest.raises(ValueError, match="takes no prompts; leave them out"):
        teachers.load("sam", weights=folder)([noise(40, 40)], [np.zeros((0, 4))])
    state = torch.load(file)
    state.pop("mask_decoder.iou_token.weight")
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"prompt encoder and mask decoder: it lacks 1 tensor \(mask_decoder\.iou_tok"):
        teachers.load("sam", weights=tmp_path / "less.pth").prompted("boxes")


def test_medsam_gives_what_its_official_inference_gives_on_the_same_pixels(file):
    """The steps of MedSAM_Inference.py, on an image that needs no resizing."""
    official, image = original_sam(), noise(80, 80)
    official.load_state_dict(torch.load(file))
    image[12:30, 20:55] = 230
    teacher = teachers.load("sam", weights=file, variant="medsam").prompted("boxes")
    scaled = (image - image.min()) / np.clip(image.max() - image.min(), a_min=1e-8, a_max=None)
    pixels = torch.tensor(scaled).float().permute(2, 0, 1)[None]
    prepared = teacher.prepare(image)
    assert prepared.valid == (1.0, 1.0)
    torch.testing.assert_close(prepared.pixels[None], pixels, atol=1e-6, rtol=0)
    box = torch.tensor([[18.0, 10.0, 57.0, 32.0]])
    with torch.inference_mode():
        embedding = official.image_encoder(pixels)
        sparse, dense = official.prompt_encoder(points=None, boxes=box[:, None], masks=None)
        logits, _ = official.mask_decoder(
            image_embeddings=embedding,
            image_pe=official.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
    maps = teacher([image], [box.double().numpy() / 80])
    assert (maps["neck"] - embedding).abs().max() <= 1e-5
    assert logits.std() > 0.1
    assert (maps[MASK] - logits.clamp(-LOGIT_CLIP, LOGIT_CLIP)).abs().max() <= 1e-5
    assert teacher.identity["variant"] == "medsam"
    assert "one mask, maximum over prompts" in teacher.identity["prompts"]


def test_medsam_stretches_the_whole_image_and_a_flat_one_is_black(file):
    teacher = teachers.load("sam", weights=file, variant="medsam")
    pixels = teacher.prepare(noise(50, 131)).pixels
    assert (pixels.shape, float(pixels.min()), float(pixels.max())) == ((3, 80, 80), 0.0, 1.0)
    assert not teacher.prepare(np.full((20, 30, 3), 77, np.uint8)).pixels.any()
    with pytest.raises(ValueError, match=r"teacher 'sam' has no variant 'medsam2'; leave it out, or choose medsam"):
        teachers.load("sam", weights=file, variant="medsam2")
    with pytest.raises(ValueError, match=r"teacher 'timm' has no option variant, got variant=medsam; leave it out"):
        teachers.load("timm", weights=file, variant="medsam")
