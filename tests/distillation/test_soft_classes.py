"""Soft masks of several classes: the term that imitates them, and a published student that has them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_run import recipe_of, run_of
from torch.nn import functional

import cache
import students
import teachers
from cache.spec import MASK
from distill.config.schema import AugmentRecipe, CacheRecipe, ImitateRecipe, StageRecipe, StudentRecipe, TeacherRecipe
from distill.distillation import losses
from distill.distillation.dataset import TrainingSet
from distill.distillation.targets import check_classes, plan_targets
from distill.evaluation.evaluate import evaluate
from distill.evaluation.soft_masks import soft_masks_of
from distill.extraction.extract import extract
from distill.runs.build import create_student
from distill.runs.caches import open_caches
from distill.training.train import train

SIDE = 64


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_two_classes_under_a_softmax_are_one_under_a_sigmoid(temperature):
    student, soft = drawn(2, 8, 8), drawn(2, 8, 8, seed=1)
    mask = (drawn(2, 8, 8, seed=2) > 0).long()
    mask[:, :3] = losses.IGNORED
    one = losses.imitate_mask(student[:, None], mask, soft, temperature=temperature)
    pair, wanted = (torch.stack([-logits / 2, logits / 2], dim=1) for logits in (student, soft))
    two = losses.imitate_mask(pair, mask, wanted, temperature=temperature)
    assert two.item() == pytest.approx(one.item(), rel=1e-5)


def test_several_classes_are_compared_at_a_temperature_where_the_teacher_is_better():
    logits, soft, mask = drawn(1, 3, 1, 3).requires_grad_(), drawn(1, 3, 1, 3, seed=1), torch.tensor([[[2, 1, 255]]])
    p, q = soft.softmax(1), logits.detach().softmax(1)
    better = [float(p[0, number, 0, place] > q[0, number, 0, place]) for place, number in ((0, 2), (1, 1))]
    weight = torch.tensor([*better, (3 * float(p[0, :, 0, 2].max()) - 1) / 2])
    warm, cool = (soft / 4).softmax(1), (logits / 4).log_softmax(1)
    by_hand = 16 * (weight * (warm * (warm.log() - cool)).sum(1)[0, 0]).mean()
    value = losses.imitate_mask(logits, mask, soft.requires_grad_(), temperature=4.0)
    assert value.item() == pytest.approx(by_hand.item(), rel=1e-5)
    value.backward()
    assert soft.grad is None
    assert losses.imitate_mask(soft + 5, mask, soft).item() == pytest.approx(0, abs=1e-6), "a softmax ignores a shift"


def published(folder, *, classes: int):
    """A published student of random weights, large enough to say something."""
    torch.manual_seed(0)
    student = students.create("unet", width=4, classes=classes)
    torch.nn.init.normal_(student.head.weight, std=2.0)
    config = {"width": 4, "classes": classes, "student": "unet", "image_size": SIDE}
    student.save_pretrained(folder, config={**config, "mean": students.MEAN, "std": students.STD})
    return student.eval()


def recipe_with(folder, *, classes: int = 3, **changes):
    stages = {"joint": StageRecipe(steps=2, losses={"segment": 1.0, "imitate_mask": 1.0})}
    teacher = TeacherRecipe(adapter="student", weights=str(folder), classes=["all"], views=["identity"])
    return recipe_of(
        student=StudentRecipe(width=2, classes=classes), stages=stages, cache=CacheRecipe(calibration=8),
        teachers={"wise": teacher}, augment=AugmentRecipe(views=["identity"], min_crop=1.0, colour=0.0), **changes,
    )  # fmt: skip


def test_a_student_of_several_classes_has_soft_masks_where_they_are_asked_for(tmp_path):
    student = published(tmp_path / "three", classes=3)
    assert MASK not in teachers.load("student", weights=tmp_path / "three").spec.names, "as ever"
    teacher = teachers.load("student", weights=tmp_path / "three", classes=("all",))
    assert (teacher.spec[MASK].channels, teacher.spec[MASK].grid) == (3, (16, 16))
    image = (255 * torch.rand(70, 90, 3, generator=torch.Generator().manual_seed(0))).byte().numpy()
    with torch.no_grad():
        logits = student(teacher.prepare(image).pixels[None])
    coarse = functional.avg_pool2d(logits - logits.mean(1, keepdim=True), 4).clamp(-6, 6)
    torch.testing.assert_close(teacher([image])[MASK], coarse, atol=1e-4, rtol=1e-4)
    published(tmp_path / "one", classes=1)
    for folder, classes, told in (("one", ("all",), 1), ("three", ("polyp",), 3)):
        with pytest.raises(ValueError, match=rf"tells {told} classes apart, got classes=.*; give \[all\]"):
            teachers.load("student", weights=tmp_path / folder, classes=classes)


def test_a_student_of_three_classes_teaches_another_one_its_soft_masks(tmp_path):
    student = published(tmp_path / "wise", classes=3)
    run = run_of(recipe_with(tmp_path / "wise", imitate=ImitateRecipe(temperature=2.0)), tmp_path / "runs" / "run")
    extract(run)
    caches = open_caches(run)
    (target,) = plan_targets(run.recipe, caches, create_student(run.recipe))
    assert (target.name, target.channels) == ("wise/mask/mask/1", 3)
    dataset = TrainingSet(run.splits.train, run.recipe, caches)
    dataset.targets = (target,)
    item = dataset[0, 0]
    assert item[target.name].shape == (3, SIDE, SIDE)
    with torch.no_grad():
        truth = student(item["image"][None]).softmax(1)[0]
    assert (item[target.name].softmax(0) - truth).abs().mean() < 0.12
    assert (item[target.name].argmax(0) == truth.argmax(0)).float().mean() > 0.75
    assert train(run)["targets"] == [target.name]
    log = (run.folder / "log.jsonl").read_text()
    assert '"imitate_mask": ' in log
    found = soft_masks_of(run)["wise"].probability(run.splits.val[0])
    assert found.shape == (3, *run.splits.val[0].size)
    assert abs(found.sum(axis=0) - 1).max() < 1e-5
    assert "pooled" in evaluate(run)["datasets"]["left"]


def test_soft_masks_of_other_classes_than_the_student_s_are_refused(tmp_path):
    published(tmp_path / "wise", classes=3)
    recipe = recipe_with(tmp_path / "wise", classes=4)
    spec = teachers.load("student", weights=tmp_path / "wise", classes=("all",)).spec
    with pytest.raises(ValueError, match=r"soft masks of teacher 'wise' have 3 classes, and student\.classes is 4"):
        check_classes(recipe, spec, teacher="wise")
    squares = replace(recipe, stages={"s": replace(next(iter(recipe.stages.values())), losses={"imitate_mask_mse": 1})})
    with pytest.raises(ValueError, match=r"stages weigh imitate_mask_mse, but the soft masks of teacher 'wise' have 3"):
        check_classes(squares, spec, teacher="wise")
    with pytest.raises(ValueError, match=r"soft masks of teacher 'wise' have 3 classes, and student\.classes is 4"):
        extract(run_of(recipe, tmp_path / "runs" / "run"))
    plain = {"wise": replace(recipe.teachers["wise"], classes=[])}
    with pytest.raises(
        ValueError, match=r"imitate_mask needs soft masks of \d classes .*, but teachers\.wise gives one foreground cl"
    ):
        replace(recipe, teachers=plain)
    with pytest.raises(ValueError, match=r"imitate\.temperature is 0, but must be positive"):
        ImitateRecipe(temperature=0)
    assert cache.exists(tmp_path / "runs" / "wise") is False
