"""Several teachers at once: what a weight and a random absence do to value and gradient, and the whole run."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from small_run import disc_splits, recipe_of, run_of, train_killed_at, weights_of
from small_teachers import write_sam, write_timm

from distill.config.parse import read_recipe
from distill.config.schedule import Span
from distill.config.schema import StageRecipe, TeacherRecipe
from distill.data.teacher_dropout import draw_teacher_mask
from distill.distillation import losses
from distill.distillation.criterion import compute_losses
from distill.distillation.dataset import TrainingSet
from distill.distillation.targets import Target, plan_targets
from distill.run import main
from distill.runs.build import create_student
from distill.runs.caches import open_caches
from distill.runs.fingerprint import fingerprint_features, fingerprint_run
from distill.training.train import train

SAM, DINO = (Target(name, "m", "low", 8, (4, 4), 5, 0.5) for name in ("sam", "dino"))


def span_of(**terms):
    return Span("stage", StageRecipe(epochs=1, losses=terms), 0, 1, per_epoch=1)


def maps(images=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    return {t.name: torch.randn(images, 5, 4, 4, generator=random) for t in (SAM, DINO)}


def term_of(targets, projected, batch):
    return compute_losses(span_of(imitate_low=1.0), targets, logits=(), projected=projected, batch=batch)["imitate_low"]


def two_teachers(features, **changes):
    """The drawn cache under two names, as two teachers."""
    recipe = recipe_of(features)
    given = recipe.teachers["drawn"]
    entries = {name: replace(given, **changes.get(name, {})) for name in ("drawn", "other")}
    return replace(recipe, teachers=entries)


def test_a_weight_is_a_factor_on_value_and_gradient():
    wanted = maps(seed=1)
    plain, heavy = ({name: value.requires_grad_() for name, value in maps().items()} for _ in range(2))
    term_of((SAM, DINO), plain, wanted).backward()
    value = term_of((replace(SAM, weight=3.0), DINO), heavy, wanted)
    value.backward()
    parts = [losses.imitate_features(plain[t.name], wanted[t.name]).item() for t in (SAM, DINO)]
    assert value.item() == pytest.approx((3 * parts[0] + parts[1]) / 2)
    torch.testing.assert_close(heavy[SAM.name].grad, 3 * plain[SAM.name].grad)
    assert torch.equal(heavy[DINO.name].grad, plain[DINO.name].grad)


@pytest.mark.parametrize("name", ["imitate_features", "imitate_mse"])
def test_an_image_that_does_not_hear_a_teacher_learns_nothing_from_it(name):
    targets = [replace(t, band="all") for t in (SAM, DINO)]
    projected = {t.name: torch.randn(3, 5, 4, 4).requires_grad_() for t in targets}
    wanted = {t.name: torch.randn(3, 5, 4, 4) for t in targets}
    heard = {
        "sam/teacher_mask": torch.tensor([True, False, True]),
        "dino/teacher_mask": torch.tensor([False, True, True]),
    }

    def value_of(batch):
        span = span_of(**{name: 1.0})
        return compute_losses(span, tuple(targets), logits=(), projected=projected, batch={**wanted, **batch})[name]

    value = value_of(heard)
    value.backward()
    for target in targets:
        reached = projected[target.name].grad.flatten(1).abs().sum(1) > 0
        assert torch.equal(reached, heard[f"{target.teacher}/teacher_mask"])
    term = getattr(losses, name)
    alone = [
        term(projected[t.name][i : i + 1], wanted[t.name][i : i + 1], deviation=t.deviation).item()
        for t in targets
        for i in range(3)
        if heard[f"{t.teacher}/teacher_mask"][i]
    ]
    assert value.item() == pytest.approx(sum(alone) / 6, rel=1e-5), "a mean over images and teachers"
    everybody = {key: torch.ones(3, dtype=torch.bool) for key in heard}
    assert value_of(everybody).item() == pytest.approx(value_of({}).item(), rel=1e-6)
    nobody = {key: torch.zeros(3, dtype=torch.bool) for key in heard}
    assert value_of(nobody).item() == 0
    value_of(nobody).backward()


def test_a_dropped_soft_mask_leaves_the_logits_alone():
    target = Target("sam", "mask", "mask", 1, (32, 32), 1, 1.0, weight=2.0)
    logits = torch.randn(2, 1, 32, 32).requires_grad_()
    mask, soft = torch.full((2, 32, 32), 255), torch.randn(2, 32, 32)
    batch = {"mask": mask, target.name: soft, "sam/teacher_mask": torch.tensor([False, True])}
    terms = compute_losses(span_of(imitate_mask=1.0), (target,), logits=(logits,), projected={}, batch=batch)
    terms["imitate_mask"].backward()
    assert terms["imitate_mask"].item() == pytest.approx(losses.imitate_mask(logits[1:], mask[1:], soft[1:]).item())
    assert (logits.grad.flatten(1).abs().sum(1) > 0).tolist() == [False, True]


def test_what_an_image_hears_hangs_on_seed_epoch_and_image_and_each_teacher_is_dropped_by_its_share():
    def row(epoch, sample, seed=0):
        heard = draw_teacher_mask({"a": 0.5, "b": 0.9, "c": 0.0}, seed=seed, epoch=epoch, sample=sample)
        return tuple(bool(heard[f"{name}/teacher_mask"]) for name in "abc")

    rows = [row(epoch, f"{image:064x}") for epoch in range(20) for image in range(50)]
    assert rows == [row(epoch, f"{image:064x}") for epoch in range(20) for image in range(50)]
    assert rows != [row(epoch, f"{image:064x}", seed=1) for epoch in range(20) for image in range(50)]
    assert np.mean(rows, axis=0) == pytest.approx([0.5, 0.1, 1.0], abs=0.05)
    pairs = [draw_teacher_mask({"a": 0.9, "b": 0.9}, seed=0, epoch=0, sample=f"{image}") for image in range(400)]
    said = np.array([[bool(one) for one in pair.values()] for pair in pairs])
    assert said.mean(axis=0) == pytest.approx([0.1, 0.1], abs=0.05), "neither is preferred"
    assert draw_teacher_mask({"a": 0.0}, seed=0, epoch=0, sample="x") == {}


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.9), (0.9, 0.9), (0.3, 0.0, 0.6), (0.9, 0.9, 0.2), (0.25,) * 4])
def test_a_teacher_is_dropped_by_just_its_share_and_somebody_stays_where_that_can_be(shares):
    drop = {str(number): share for number, share in enumerate(shares)}
    rows = [list(draw_teacher_mask(drop, seed=0, epoch=0, sample=f"{image}").values()) for image in range(4000)]
    dropped = 1 - np.array(rows).astype(float)
    assert dropped.mean(axis=0) == pytest.approx(np.array(shares), abs=0.02)
    assert set(dropped.sum(axis=1)) <= {np.floor(sum(shares)), np.ceil(sum(shares))}
    assert (dropped.sum(axis=1).max() < len(shares)) == (sum(shares) <= len(shares) - 1)


def test_views_and_crops_are_drawn_as_without_dropping(features, tmp_path):
    plain, dropping = two_teachers(features), two_teachers(features, drawn={"drop": 0.5})
    items = []
    for recipe in (plain, dropping):
        caches = open_caches(run_of(recipe, tmp_path / "run"))
        dataset = TrainingSet(disc_splits().train, recipe, caches)
        dataset.targets = plan_targets(recipe, caches, create_student(recipe))
        items.append([dataset[3, index] for index in range(8)])
    for one, other in zip(*items, strict=True):
        assert set(other) - set(one) == {"drawn/teacher_mask", "other/teacher_mask"}
        assert all(torch.equal(other[name], value) for name, value in one.items())
        assert bool(other["other/teacher_mask"])


@pytest.mark.parametrize(("drop", "fuse"), [(0.0, 0), (0.5, 0), (0.0, 3)])
def test_no_teacher_speaks_of_an_image_that_was_retouched(features, tmp_path, drop, fuse):
    plain = two_teachers(features, drawn={"drop": drop})
    plain = replace(plain, augment=replace(plain.augment, min_crop=1.0), imitate=replace(plain.imitate, fuse=fuse))
    erasing = replace(plain, augment=replace(plain.augment, erase=0.25))
    items = []
    for recipe in (plain, erasing):
        caches = open_caches(run_of(recipe, tmp_path / "run"))
        dataset = TrainingSet(disc_splits().train, recipe, caches)
        dataset.targets = plan_targets(recipe, caches, create_student(recipe))
        items.append([dataset[epoch, index] for epoch in range(10) for index in range(8)])
    retouched = [not torch.equal(one["image"], other["image"]) for one, other in zip(*items, strict=True)]
    assert 0.1 < np.mean(retouched) < 0.9
    keys = {f"{target.teacher}/teacher_mask" for target in dataset.targets}
    assert len(keys) == (1 if fuse else 2)
    for one, other, changed in zip(*items, retouched, strict=True):
        for key in keys:
            assert bool(other[key]) == (not changed and bool(one.get(key, True)))


def test_so_many_covered_images_that_teachers_are_hardly_heard_are_refused(features):
    recipe = recipe_of(features)
    with pytest.raises(ValueError, match=r"augment\.erase is 0\.3, but stages imitate a teacher.*set at most 0\.25"):
        replace(recipe, augment=replace(recipe.augment, erase=0.3))


def test_a_killed_training_with_dropping_ends_where_an_uninterrupted_one_does(features, tmp_path, monkeypatch):
    recipe = two_teachers(features, drawn={"drop": 0.5, "weight": 2.0}, other={"drop": 0.5})
    whole, killed, plain = (run_of(recipe, tmp_path / name) for name in ("whole", "killed", "plain"))
    summary = train(whole)
    assert {name.split("/")[0] for name in summary["targets"]} == {"drawn", "other"}
    train_killed_at(5, killed, monkeypatch)
    plain = run_of(two_teachers(features), tmp_path / "plain")
    train(plain)
    assert all(torch.equal(value, weights_of(killed)[name]) for name, value in weights_of(whole).items())
    assert any(not torch.equal(value, weights_of(plain)[name]) for name, value in weights_of(whole).items())


def test_weight_and_drop_name_another_run_but_like_mirror_the_same_cache(features):
    heard = {"weight": 0.5, "drop": 0.3, "mirror": True}
    plain, weighted = two_teachers(features), two_teachers(features, other=heard)
    names = [fingerprint_run(recipe, splits="s", caches={}) for recipe in (plain, weighted)]
    assert names[0] != names[1]
    caches = [fingerprint_features(r.teachers["other"], fidelity=0.9, calibration=[]) for r in (plain, weighted)]
    assert caches[0] == caches[1]


def test_mirrored_views_of_a_given_cache_name_another_run(features):
    extracted = recipe_of(features)
    teacher = replace(extracted.teachers["drawn"], mirror=True)
    mirrored = replace(extracted, teachers={"drawn": replace(teacher, views=["identity"])})
    same = replace(extracted, teachers={"drawn": teacher})
    names = [fingerprint_run(recipe, splits="s", caches={"drawn": "c"}) for recipe in (extracted, same, mirrored)]
    assert names[0] == names[1] != names[2]


def test_a_teacher_of_weight_zero_is_not_consulted(features):
    recipe = two_teachers(features, other={"weight": 0.0})
    assert list(recipe.consulted) == ["drawn"]
    with pytest.raises(ValueError, match=r"stages weigh imitate_low, imitate_high, but no teacher with features has a"):
        two_teachers(features, drawn={"weight": 0.0}, other={"weight": 0.0})


def test_what_cannot_be_dropped_is_refused(features):
    with pytest.raises(
        ValueError, match=r"teachers\.drawn\.drop is above 0, but no other teacher has a positive weight"
    ):
        two_teachers(features, drawn={"drop": 0.5}, other={"weight": 0.0})
    with pytest.raises(ValueError, match=r"teachers\.NAME\.drop is 1\.0, but must lie in \[0, 1\)"):
        TeacherRecipe(drop=1.0)
    with pytest.raises(ValueError, match=r"teachers\.NAME\.weight is -1\.0, but must not be negative"):
        TeacherRecipe(weight=-1.0)
    with pytest.raises(ValueError, match=r"did you mean 'teachers\.NAME\.weight'"):
        read_recipe(["recipe=sam_to_unet", "teachers.sam.wieght=2"])


def test_two_teachers_go_through_the_whole_job(tmp_path, monkeypatch):
    publishing = import_module(
        "distill.publishing.student"
    )  # exporting to ONNX takes seconds, and knows nothing of teachers
    proof = {"batches": 1, "sizes": {"count": 1}, "max_difference": 0.0, "dice": {}}
    monkeypatch.setattr(publishing, "export_onnx", lambda deploy, path, *, metadata: path.write_bytes(b""))
    monkeypatch.setattr(publishing, "open_onnx", lambda path, **_: lambda images: images)
    monkeypatch.setattr(publishing, "check_onnx", lambda *_, **__: proof)
    sam, timm = write_sam(tmp_path / "sam"), write_timm(tmp_path / "timm")
    words = [
        "recipe=sam_to_unet", "precision=fp32", "image_size=64", "data.size=[64,64]",
        "data.images={train: 8, val: 2, test: 2}", "cache.fidelity=0.8", "cache.calibration=8", "student.width=2",
        "optimiser.batch_size=4", "stages.semantic.epochs=1", "stages.boundary.epochs=1", "evaluate.bootstrap=100",
        "publish.examples=1", f"teachers.sam.weights={sam['weights']}", "teachers.sam.views=[identity]",
        "augment.views=[identity]", "teachers.sam.drop=0.5", "teachers.sam.weight=2", f"home={tmp_path / 'home'}",
        "stages.boundary.losses.imitate_high=0",
        f"teachers.second={{adapter: timm, model: test_efficientnet, weights: {timm['weights']}, image_size: 160, "
        "views: [identity], drop: 0.5}",
    ]  # fmt: skip
    assert main(words) == 0
    (run,) = (tmp_path / "home" / "runs").iterdir()
    assert json.loads((run / "train.json").read_text())["targets"] == [
        "sam/neck/low/16", "sam/neck/low/8", "second/stride16/low/16", "second/stride16/low/8",
    ]  # fmt: skip
    card = (run / "student" / "README.md").read_text()
    assert "| sam |" in card
    assert "| timm test_efficientnet |" in card
    assert len(list((tmp_path / "home" / "features").iterdir())) == 2
