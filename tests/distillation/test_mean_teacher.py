"""The student's moving average as the teacher of images without masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_run import disc_splits, recipe_of, run_of, train_killed_at, weights_of

from distill.config.schedule import Span
from distill.config.schema import AugmentRecipe, OptimiserRecipe, StageRecipe, TeacherRecipe
from distill.data.sources.unlabelled import unlabel
from distill.distillation.criterion import compute_losses
from distill.distillation.dataset import TrainingSet
from distill.distillation.losses import imitate_mask
from distill.distillation.mean_teacher import AVERAGE, MIXED_AREA, PLAIN, draw_covered, mix, taught
from distill.runs.checks import check
from distill.training.train import train

TERMS = {"segment": 1.0, "mean_teacher": 1.0}


def batch_of(*labelled, side=8):
    """Images that are told apart by their values; those that are not `labelled` have an unknown mask."""
    torch.manual_seed(0)
    mask = torch.stack([torch.full((side, side), 0 if known else 255, dtype=torch.uint8) for known in labelled])
    image = torch.randn(len(labelled), 3, side, side)
    return {"image": image, PLAIN: image + 1, "mask": mask}


def in_halves(splits):
    return replace(splits, train=splits.train[:4], unlabelled=tuple(map(unlabel, splits.train[4:])))


def stages(**more):
    return {"first": StageRecipe(steps=3, losses={"segment": 1.0}), "both": StageRecipe(steps=6, losses=TERMS), **more}


def averaging(**changes):
    augment = AugmentRecipe(views=["identity", "hflip"], cutmix=1.0, camera=1.0)
    entries = {"stages": stages(), "optimiser": OptimiserRecipe(batch_size=4, ema=0.9), "augment": augment}
    return replace(recipe_of(), **(entries | changes))


def test_the_average_sees_unlabelled_images_alone_as_they_are():
    seen = []

    def average(images):
        seen.append(images)
        return images[:, :1].requires_grad_()

    batch = batch_of(True, False, True, False)
    found = taught(batch, average, cutmix=0.0)
    assert torch.equal(seen[0].detach(), batch[PLAIN][[1, 3]])
    assert torch.equal(found["image"], batch["image"])
    assert found[AVERAGE].shape == (4, 8, 8)
    assert not found[AVERAGE].requires_grad
    assert torch.equal(found[AVERAGE][[1, 3]], batch[PLAIN][[1, 3], 0])
    assert not found[AVERAGE][[0, 2]].any()


def test_a_batch_with_masks_throughout_needs_no_average():
    found = taught(batch_of(True, True), lambda _: pytest.fail("called"), cutmix=1.0)
    assert not found[AVERAGE].any()


def test_several_classes_keep_their_planes():
    found = taught(batch_of(True, False), lambda images: images, cutmix=0.0)
    assert found[AVERAGE].shape == (2, 3, 8, 8)


def test_what_covers_an_image_covers_what_is_said_of_it():
    batch = batch_of(True, False, False, False, side=32)
    found = taught(batch, lambda images: images, cutmix=1.0)
    assert torch.equal(found["image"][1:] + 1, found[AVERAGE][1:])
    assert torch.equal(found["image"][0], batch["image"][0]), "labelled"
    for place, other in ((1, 3), (2, 1), (3, 2)):
        own = (found["image"][place] == batch["image"][place]).float().mean()
        assert own == pytest.approx(1 - MIXED_AREA, abs=0.06)
        strange = found["image"][place] != batch["image"][place]
        assert torch.equal(found["image"][place][strange], batch["image"][other][strange])


def test_covered_areas_are_boxes_of_any_aspect_and_of_a_share_of_images():
    torch.manual_seed(0)
    covered = draw_covered(400, (40, 60), share=0.25)
    some = [plane[0] for plane in covered if plane.any()]
    assert len(some) == pytest.approx(100, abs=25)
    heights = []
    for plane in some:
        rows, columns = plane.any(dim=1), plane.any(dim=0)
        assert torch.equal(plane, rows[:, None] & columns)
        assert plane.float().mean() == pytest.approx(MIXED_AREA, abs=0.02)
        heights.append(int(rows.sum()))
    assert min(heights) < 22
    assert max(heights) > 36
    assert not draw_covered(50, (8, 8), share=0.0).any()


def test_one_image_alone_is_covered_by_itself():
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(mix(image, torch.ones(1, 1, 8, 8, dtype=torch.bool)), image)


def test_the_term_is_that_of_soft_masks_on_images_without_one_as_a_mean_over_all():
    span = Span("both", StageRecipe(steps=1, losses={"mean_teacher": 1.0}), 0, 1, per_epoch=1)
    batch = taught(batch_of(True, False, True, True), lambda images: images[:, :1], cutmix=0.0)
    heads = tuple(torch.randn(4, 1, 8, 8, requires_grad=True) for _ in range(2))
    (found,) = compute_losses(span, (), logits=heads, projected={}, batch=batch).values()
    own = [imitate_mask(head[1:2], batch["mask"][1:2], batch[AVERAGE][1:2]) for head in heads]
    assert float(found.detach()) == pytest.approx(float(torch.stack(own).mean().detach()) / 4)
    found.backward()
    assert all(head.grad[1].any() and not head.grad[[0, 2, 3]].any() for head in heads)


def test_an_unlabelled_image_is_shown_to_the_average_without_another_look():
    splits, recipe = in_halves(disc_splits()), averaging()
    dataset, other = (TrainingSet(splits.training, recipe, {}) for _ in range(2))
    dataset.plain = True
    bare = TrainingSet(splits.training, averaging(augment=replace(recipe.augment, camera=0.0, colour=0.0)), {})
    differ = 0
    for epoch in range(3):
        for number in range(len(dataset)):
            item = dataset[epoch, number]
            assert torch.equal(item["image"], other[epoch, number]["image"]), "as it is without the term"
            labelled = number < len(splits.train)
            wanted = item["image"] if labelled else bare[epoch, number]["image"]
            assert torch.equal(item[PLAIN], wanted)
            differ += not torch.equal(item[PLAIN], item["image"])
    assert differ > 0
    assert PLAIN not in other[0, 0]


def test_a_killed_training_ends_bit_identical(tmp_path, monkeypatch):
    whole, killed = (run_of(averaging(), tmp_path / name) for name in ("whole", "killed"))
    whole, killed = (replace(run, splits=in_halves(run.splits)) for run in (whole, killed))
    train(whole)
    train_killed_at(6, killed, monkeypatch)
    ours, theirs = weights_of(whole), weights_of(killed)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_it_needs_an_average_images_without_masks_and_no_features_of_mixed_ones(tmp_path):
    with pytest.raises(ValueError, match=r"moving average, but optimiser\.ema is 0; set optimiser\.ema=0\.99"):
        averaging(optimiser=OptimiserRecipe(batch_size=4))
    with pytest.raises(ValueError, match=r"augment\.cutmix is 1\.0, but no stage weighs mean_teacher"):
        averaging(stages={"first": StageRecipe(steps=3, losses={"segment": 1.0})})
    with pytest.raises(ValueError, match=r"augment\.cutmix mixes images, but stages\.both also imitates"):
        averaging(
            stages={"both": StageRecipe(steps=3, losses={**TERMS, "imitate_low": 1.0})},
            teachers={"sam": TeacherRecipe(weights="FILE")},
        )
    with pytest.raises(ValueError, match=r"stages\.both weighs mean_teacher, but its batches hold no images without"):
        check(run_of(averaging(), tmp_path))
