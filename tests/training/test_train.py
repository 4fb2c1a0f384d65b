"""Training: what hangs on what, and that a killed run ends where an uninterrupted one does, bit for bit."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import chain, product

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import disc_splits, recipe_of, run_of, train_killed_at, weights_of

import cache
from cache.series import WHOLE
from distill.config.schedule import learning_rate_at, spans_of
from distill.config.schema import (
    AugmentRecipe,
    OptimiserRecipe,
    StageRecipe,
    StudentRecipe,
    TeacherRecipe,
)
from distill.data.augment import draw, generator_for
from distill.distillation import losses
from distill.distillation.dataset import TrainingSet, read_target
from distill.distillation.loading import loader
from distill.distillation.sampler import Batches
from distill.distillation.targets import plan_targets
from distill.runs.build import create_student
from distill.runs.caches import open_caches, read_records
from distill.runs.checks import check, check_student_strides
from distill.runs.leakage import check_published_teachers, training_keys_of_start
from distill.runtime import hardware
from distill.runtime.resize import resize
from distill.runtime.tensor_files import write_tensors
from distill.training.checkpoint import load_checkpoint, save_checkpoint
from distill.training.parameters import set_frozen
from distill.training.plan import plan_training
from distill.training.state import build_state
from distill.training.train import batches_of, dice_of_nothing, train
from students import create
from students.published import LEARNED

training, validation = (import_module(f"distill.training.{name}") for name in ("train", "validation"))


def test_where_bf16_would_be_emulated_fp32_is_said_and_recorded(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="bandpass")
    monkeypatch.setattr(hardware, "_emulates_bfloat16", lambda: True)
    assert train(run_of(recipe_of(precision="bf16"), tmp_path / "run"))["precision"] == "fp32"
    assert "precision is fp32: this machine would have to emulate bf16" in caplog.text


@pytest.mark.parametrize("at", [3, 7])
def test_a_killed_training_ends_bit_identical(features, tmp_path, monkeypatch, at):
    whole = run_of(recipe_of(features), tmp_path / "whole")
    expected = train(whole)
    killed = run_of(recipe_of(features), tmp_path / "killed")
    continued = train_killed_at(at, killed, monkeypatch)
    assert continued["validation_dice"] == expected["validation_dice"]
    assert continued["best_step"] == expected["best_step"]
    found = weights_of(killed)
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, found[name]), name


def test_the_best_weights_keep_their_score_where_a_kill_took_their_steps_back(tmp_path, monkeypatch):
    figures = iter([0.3, 0.9, *(5 * [0.5])])
    monkeypatch.setattr(validation, "validate", lambda *args, **named: {"dice": next(figures)})
    run = run_of(recipe_of(), tmp_path)
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        train_step = training.train_step

        def killed(state, span, step, *args, **named):
            if state.counters.best == 0.9:
                raise KeyboardInterrupt
            return train_step(state, span, step, *args, **named)

        patch.setattr(training, "train_step", killed)
        train(run)
    best = weights_of(run)
    summary = train(run)  # from the start, for there is no checkpoint yet; this time nothing scores 0.9
    assert summary["validation_dice"] == 0.9
    assert summary["best_step"] == 4
    assert all(torch.equal(tensor, best[name]) for name, tensor in weights_of(run).items())


def test_a_module_that_a_network_uses_under_two_names_is_kept(tmp_path):
    network = torch.nn.ModuleDict({"first": torch.nn.Linear(3, 3)})
    network["second"] = network["first"]
    write_tensors(tmp_path / "c.safetensors", network.state_dict())
    other = torch.nn.ModuleDict({"first": torch.nn.Linear(3, 3)})
    other["second"] = other["first"]
    other.load_state_dict(load_file(tmp_path / "c.safetensors"))
    assert torch.equal(other["second"].weight, network["first"].weight)


def test_a_crop_is_not_made_of_fewer_pixels_than_it_has(tmp_path):
    recipe = recipe_of(augment=AugmentRecipe(min_crop=0.2, sizes=[1, 1.5]))
    assert TrainingSet((), recipe, {}).side_kept == 537  # 96 pixels out of a fifth, or of less on the shorter side
    assert TrainingSet((), recipe_of(augment=AugmentRecipe()), {}).side_kept == 2 * 64


def test_a_trained_job_returns_at_once(features, tmp_path, monkeypatch):
    run = run_of(recipe_of(features), tmp_path)
    first = train(run)
    monkeypatch.setattr(training, "build_state", lambda plan: pytest.fail("trained again"))
    assert train(run) == first


def test_the_published_student_knows_nothing_of_teachers(features, tmp_path):
    run = run_of(recipe_of(features), tmp_path)
    train(run)
    assert set(weights_of(run)) == set(create("unet", width=2).state_dict())


def test_the_log_has_every_term_of_every_stage(features, tmp_path):
    run = run_of(recipe_of(features), tmp_path)
    train(run)
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    terms = {line["stage"]: set(line) for line in lines if "loss" in line}
    assert {"segment", "imitate_low"} <= terms["semantic"]
    assert {"segment", "boundary", "imitate_high"} <= terms["boundary"]
    assert sum("validation_dice" in line for line in lines) == 5


def test_the_control_sees_the_same_images_in_the_same_order(features, tmp_path):
    distilled, baseline = recipe_of(features), recipe_of()
    batches = [Batches(images=8, batch=4, seed=0, start=0, stop=4, rank=0, ranks=1) for _ in (distilled, baseline)]
    sets = [TrainingSet(disc_splits().train, recipe, {}) for recipe in (distilled, baseline)]
    for left, right in zip(*(loader(s, b, workers=0) for s, b in zip(sets, batches, strict=True)), strict=True):
        assert torch.equal(left["image"], right["image"])
        assert torch.equal(left["mask"], right["mask"])


def test_both_arms_begin_with_equal_weights(features):
    for name, tensor in create_student(recipe_of(features)).state_dict().items():
        assert torch.equal(tensor, create_student(recipe_of()).state_dict()[name])


def test_the_union_over_ranks_is_the_same_for_any_number_of_processes():
    whole = list(Batches(images=50, batch=12, seed=3, start=2, stop=9, rank=0, ranks=1))
    for ranks in (2, 3, 4):
        parts = [list(Batches(images=50, batch=12, seed=3, start=2, stop=9, rank=r, ranks=ranks)) for r in range(ranks)]
        assert [list(chain.from_iterable(step)) for step in zip(*parts, strict=True)] == whole


def test_an_epoch_shows_every_image_once():
    batches = list(Batches(images=24, batch=8, seed=0, start=0, stop=6, rank=0, ranks=1))
    for epoch in (0, 1):
        seen = [index for batch in batches[3 * epoch : 3 * epoch + 3] for e, index in batch if e == epoch]
        assert sorted(seen) == list(range(24))
    assert batches[:3] != batches[3:]


def test_a_sample_is_augmented_by_its_name_and_nothing_else():
    augment = AugmentRecipe()
    draws = [draw(augment, generator_for(0, 4, "a" * 64)) for _ in range(2)]
    assert draws[0] == draws[1]
    others = [draw(augment, generator_for(*where)) for where in ((1, 4, "a" * 64), (0, 5, "a" * 64), (0, 4, "b" * 64))]
    assert all(other != draws[0] for other in others)


def test_boxes_stay_inside_and_some_images_are_seen_whole():
    boxes = [draw(AugmentRecipe(min_crop=0.3), generator_for(0, e, "k")).box for e in range(400)]
    assert all(0 <= b[0] < b[2] <= 1 + 1e-9 and 0 <= b[1] < b[3] <= 1 + 1e-9 for b in boxes)
    whole = np.mean([box == WHOLE for box in boxes])
    assert 0.12 < whole < 0.28
    assert min(b[2] - b[0] for b in boxes) < 0.4


def test_a_target_is_the_code_of_the_very_crop_and_view(features):
    recipe = recipe_of(features)
    store = cache.open(features)
    targets = plan_targets(recipe, {"drawn": store}, create("unet", width=2))
    dataset = TrainingSet(disc_splits().train, recipe, {"drawn": store})
    dataset.targets = targets
    item = dataset[1, 3]
    key = dataset.samples[3].key
    drawn = draw(recipe.augment, generator_for(0, 1, key))
    for target in targets:
        expected = store.decode(key, drawn.view, map="neck", box=drawn.box, grid=target.grid, band=target.band)
        assert torch.equal(item[target.name], expected)
        assert item[target.name].shape == (target.channels, *target.grid)


def test_a_grid_too_coarse_for_the_high_band_is_refused(features):
    recipe = replace(recipe_of(features), image_size=32)
    with pytest.raises(ValueError, match=r"imitate\.high asks for stride 8, a grid of 4x4 cells"):
        plan_targets(recipe, {"drawn": cache.open(features)}, create("unet", width=2))
    semantic = replace(recipe, stages={"semantic": recipe.stages["semantic"]})
    assert {t.band for t in plan_targets(semantic, {"drawn": cache.open(features)}, create("unet", width=2))} == {"low"}


def test_a_stride_the_student_has_not_is_refused(features):
    recipe = replace(recipe_of(features), imitate=replace(recipe_of().imitate, low=[32]))
    with pytest.raises(
        ValueError, match=r"imitate\.low asks for stride 32, but student unet has strides 1, 2, 4, 8, 16"
    ):
        check_student_strides(recipe, create("unet", width=2))


def test_a_missing_or_incomplete_cache_says_what_to_run(features, tmp_path):
    run = run_of(recipe_of(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no features of teacher 'drawn' at .*; give another cache"):
        open_caches(run)
    run = run_of(recipe_of(features), tmp_path)
    more = replace(run.splits, train=(*run.splits.train, *run.splits.val))
    with pytest.raises(FileNotFoundError, match=r"lacks 6 of 40 records .* give another cache") as told:
        open_caches(replace(run, splits=more))
    assert "of teacher 'drawn', of 2 images in hflip, vflip, rot180, such as " in str(told.value)
    assert any(f"such as {sample.stem!r}; give" in str(told.value) for sample in run.splits.val)
    damaged = tmp_path / "damaged"
    shutil.copytree(features, damaged)
    shards = sorted(damaged.glob("shard-*"))
    shards[0].write_bytes(shards[0].read_bytes()[:-1])
    with pytest.raises(FileNotFoundError, match=r"'; left out as damaged: 1 shard; give another cache"):
        open_caches(run_of(recipe_of(damaged), tmp_path))


def test_a_cache_fitted_on_held_out_images_is_refused(features, tmp_path):
    run = run_of(recipe_of(features), tmp_path)
    leaky = replace(run.splits, val=run.splits.train[:3])
    with pytest.raises(ValueError, match="was fitted on 3 images that are validation or test here"):
        open_caches(replace(run, splits=leaky))


@pytest.mark.parametrize("part", ["encoder", "decoder", "head"])
def test_a_frozen_part_rests_with_its_statistics(tmp_path, part):
    stages = {"semantic": StageRecipe(epochs=2, losses={"segment": 1.0}, freeze=[part])}
    recipe = replace(recipe_of(), stages=stages)
    before = create_student(recipe).state_dict()
    run = run_of(recipe, tmp_path)
    train(run)
    for name, tensor in weights_of(run).items():
        if name.startswith(part):
            assert torch.equal(tensor, before[name]), name
    assert any(not torch.equal(t, before[n]) for n, t in weights_of(run).items() if not n.startswith(part))


def test_a_part_that_was_frozen_learns_again():
    student = create("unet", width=2)
    set_frozen(student, ["encoder"])
    set_frozen(student, [])
    assert all(p.requires_grad for p in student.parameters())
    assert all(module.training for module in student.modules())


def test_a_loss_that_is_no_number_stops_with_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "segment", lambda logits, mask: logits.sum() * float("nan"))
    with pytest.raises(ValueError, match=r"the loss became nan between steps 0 and 6 of stage 'semantic'"):
        train(run_of(recipe_of(), tmp_path))


def test_a_student_starts_from_a_published_one_with_a_new_head(tmp_path):
    torch.manual_seed(5)
    first = create("unet", width=2)
    config = {"width": 2, "classes": 1, "student": "unet"}
    first.save_pretrained(tmp_path, config=config)
    student = create_student(replace(recipe_of(), student=StudentRecipe(width=2, init=str(tmp_path), classes=3)))
    for name, tensor in student.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(tensor, first.state_dict()[name])
    with pytest.raises(ValueError, match=r"does not fit student unet of width 4"):
        create_student(replace(recipe_of(), student=StudentRecipe(width=4, init=str(tmp_path))))


def test_a_start_that_knows_the_masks_it_is_scored_by_is_refused_and_hands_on_what_it_knows(tmp_path, caplog):
    caplog.set_level("INFO", logger="bandpass")
    encoder = tmp_path / "student" / "encoder" / "encoder.safetensors"
    create("unet", width=2).export_encoder(encoder.parent)
    create("unet", width=2).save_pretrained(encoder.parents[1], config={"width": 2, "classes": 1, "student": "unet"})
    record = encoder.parents[1] / LEARNED
    starts = (StudentRecipe(width=2, init=str(encoder.parents[1])), StudentRecipe(width=2, encoder=str(encoder)))
    jobs = [run_of(replace(recipe_of(), student=start), tmp_path / "run") for start in starts]
    check(jobs[0])
    assert "does not say which masks it learned from" in caplog.text
    splits = disc_splits()
    record.write_text(json.dumps({"labelled": [splits.train[0].key, "elsewhere"]}))
    for run in jobs:
        check(run)
        ((_, known),) = training_keys_of_start(run.recipe).items()
        assert known == {splits.train[0].key, "elsewhere"}
    assert "none of which is here" not in caplog.text
    record.write_text(json.dumps({"labelled": ["elsewhere"]}))
    check(jobs[0])
    assert f"{starts[0].init} was trained on the masks of 1 image, none of which is here as it was" in caplog.text
    for held_out in (splits.val[0], splits.test["left"][1]):
        record.write_text(json.dumps({"labelled": [held_out.key]}))
        for run in jobs:
            with pytest.raises(
                ValueError, match=r"student\.\w+=.* was trained on the masks of 1 images that are validation"
            ):
                check(run)


@pytest.mark.parametrize("adapter", ["student", "ensemble"])
def test_a_published_teacher_that_knows_the_masks_here_is_refused_before_any_work(adapter, tmp_path, caplog):
    caplog.set_level("INFO", logger="bandpass")
    splits, place = disc_splits(), tmp_path / "runs" / "one"
    (place / "student").mkdir(parents=True)
    (place / "recipe.yaml").touch(), (place / "student" / "model.safetensors").touch()
    recipe = recipe_of(tmp_path / "no_cache")
    (name,) = recipe.teachers
    weights = str(place if adapter == "student" else place.parent)
    recipe = replace(recipe, teachers={name: TeacherRecipe(adapter=adapter, weights=weights)})
    run = replace(run_of(recipe, tmp_path / "run"), caches={name: tmp_path / "none"})
    (place / "student" / LEARNED).write_text(json.dumps({"labelled": [splits.train[0].key]}))
    check_published_teachers(run)
    assert not caplog.text
    (place / "student" / LEARNED).write_text(json.dumps({"labelled": ["elsewhere"]}))
    check_published_teachers(run)
    assert "none of which is here as it was" in caplog.text
    (place / "student" / LEARNED).write_text(json.dumps({"labelled": [splits.val[0].key]}))
    with pytest.raises(
        ValueError, match=rf"teachers\.{name}\.weights=.* was trained on the masks of 1 images that are"
    ):
        check_published_teachers(run)


def test_a_student_whose_score_is_that_of_an_empty_prediction_is_said_to_find_nothing(tmp_path, monkeypatch, caplog):
    run = run_of(recipe_of(), tmp_path / "run")
    assert dice_of_nothing(run) == 0.0
    empty = replace(run.splits.val[0], read_mask=partial(np.zeros, run.splits.val[0].size, np.uint8))
    run = replace(run, splits=replace(run.splits, val=(empty, *run.splits.val[1:])))
    share = 1 / len(run.splits.val)
    assert dice_of_nothing(run) == pytest.approx(share)
    several = replace(run.recipe, student=replace(run.recipe.student, classes=3))
    assert dice_of_nothing(replace(run, recipe=several)) == pytest.approx(share)
    monkeypatch.setattr("distill.training.validation.validate", lambda *_, **__: {"dice": share})
    train(run)
    assert "the student finds nothing on the validation images" in caplog.text


def test_the_learning_rate_rises_then_falls_to_zero():
    optimiser = OptimiserRecipe(learning_rate=0.1, warmup=0.1)
    rates = [learning_rate_at(step, 100, optimiser) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.05)
    assert rates[-1] < 1e-4
    polynomial = replace(optimiser, schedule="polynomial")
    assert learning_rate_at(55, 100, polynomial) == pytest.approx(0.1 * 0.5**0.9)


def test_stages_are_laid_end_to_end():
    spans = spans_of(recipe_of(), labelled=28)
    assert [(s.name, s.start, s.stop) for s in spans] == [("semantic", 0, 21), ("boundary", 21, 35)]


def test_a_checkpoint_that_is_damaged_says_what_to_do(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    save_checkpoint(tmp_path / "c", {"model": model}, optimiser, {"step": 3})
    assert load_checkpoint(tmp_path / "c", {"model": model}, optimiser) == {"step": 3}
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:40])
    with pytest.raises(ValueError, match="delete it to train from the start"):
        load_checkpoint(tmp_path / "c", {"model": model}, optimiser)


def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path, monkeypatch):
    run = run_of(replace(recipe_of(), optimiser=OptimiserRecipe(batch_size=3)), tmp_path)
    monkeypatch.setattr(type(run.accelerator), "num_processes", property(lambda self: 2))
    with pytest.raises(ValueError, match=r"optimiser\.batch_size is 3, but must be a multiple of the 2 processes"):
        train(run)


def test_imitation_changes_the_encoder(features, tmp_path):
    distilled, baseline = run_of(recipe_of(features), tmp_path / "t"), run_of(recipe_of(), tmp_path / "a")
    train(distilled), train(baseline)
    name = "encoder.levels.0.0.weight"
    assert not torch.equal(weights_of(distilled)[name], weights_of(baseline)[name])
    assert math.isfinite(float(weights_of(distilled)[name].sum()))


def test_every_batch_has_one_of_the_sizes_and_its_targets_their_grid(features):
    recipe = recipe_of(features, augment=AugmentRecipe(sizes=[1, 1.5, 2]))
    assert recipe.sides == (64, 96, 128)
    store = cache.open(features)
    dataset = TrainingSet(disc_splits().train, recipe, {"drawn": store})
    dataset.targets = plan_targets(recipe, {"drawn": store}, create("unet", width=2))
    options = {"images": 8, "batch": 4, "seed": 0, "start": 0, "stop": 12, "sides": recipe.sides}
    batches = list(Batches(**options, rank=0, ranks=1))
    assert {index[2] for batch in batches for index in batch} == set(recipe.sides)
    assert all(len({index[2] for index in batch}) == 1 for batch in batches)
    halves = [list(Batches(**options, rank=rank, ranks=2)) for rank in (0, 1)]
    assert [[*left, *right] for left, right in zip(*halves, strict=True)] == batches
    for batch in batches[:4]:
        item = dataset[batch[0]]
        side = batch[0][2]
        assert item["image"].shape == (3, side, side)
        assert item["mask"].shape == (side, side)
        for target in dataset.targets:
            assert item[target.name].shape[1:] == (side // target.stride,) * 2


def test_a_run_of_several_sizes_that_was_killed_ends_where_an_uninterrupted_one_does(features, tmp_path, monkeypatch):
    recipe = recipe_of(features, augment=AugmentRecipe(sizes=[1, 1.5], colour=0.4))
    whole, killed = (run_of(recipe, tmp_path / name) for name in ("whole", "killed"))
    train(whole)
    train_killed_at(4, killed, monkeypatch)
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(killed)[name])


def test_a_single_size_is_trained_at_and_none_but_the_student_s_own_is_drawn(tmp_path):
    run = run_of(recipe_of(augment=AugmentRecipe(sizes=[1.5])), tmp_path / "larger")
    state = build_state(plan_training(run))
    assert {index[2] for batch in batches_of(state, state.plan.spans[0], start=0) for index in batch} == {96}
    state = build_state(plan_training(run_of(recipe_of(), tmp_path / "own")))
    assert {len(index) for batch in batches_of(state, state.plan.spans[0], start=0) for index in batch} == {2}


def test_a_size_that_the_student_refuses_is_told_before_anything_costly(tmp_path):
    recipe = recipe_of(augment=AugmentRecipe(sizes=[1, 2]))
    small = replace(recipe, student=StudentRecipe(name="microaunet", width=4))
    with pytest.raises(ValueError, match=r"student microaunet does not take 64 x 64 pixels .*at least 97 x 97 pixels"):
        check(run_of(small, tmp_path))


def test_a_size_that_the_student_pads_is_told_before_anything_costly(features, tmp_path):
    small = replace(recipe_of(features), image_size=144, student=StudentRecipe(name="microaunet", width=4))
    distilled = replace(small, stages={"joint": StageRecipe(epochs=1, losses={"segment": 1.0, "imitate_low": 1.0})})
    message = r"not take 144 x 144 .* stride 8 then has 20 x 20 cells, .* imitates has 18 x 18; .* such as 128 and 160"
    with pytest.raises(ValueError, match=message):
        check(run_of(distilled, tmp_path))
    alone = {"teachers": {}, "stages": {"alone": StageRecipe(epochs=1, losses={"segment": 1.0})}}
    check(run_of(replace(small, **alone), tmp_path))


def test_sizes_that_make_no_sense_are_refused(features):
    with pytest.raises(ValueError, match=r"augment\.sizes is \[\], but must hold factors from 0\.25 to 4"):
        AugmentRecipe(sizes=[])
    recipe = recipe_of(features, augment=AugmentRecipe(sizes=[0.5]))
    with pytest.raises(ValueError, match=r"imitate\.high asks for stride 8, a grid of 4x4 cells, but the high band"):
        plan_targets(recipe, {"drawn": cache.open(features)}, create("unet", width=2))


def test_what_several_strides_imitate_is_decoded_once(features, tmp_path, monkeypatch):
    losses = {"segment": 1.0, "imitate_low": 1.0, "imitate_features": 1.0}
    recipe = replace(recipe_of(features), stages={"joint": StageRecipe(steps=1, losses=losses)})
    run = run_of(recipe, tmp_path)
    caches = open_caches(run)
    dataset = TrainingSet(run.splits.train, recipe, caches)
    dataset.targets = plan_targets(recipe, caches, create_student(recipe, caches))
    assert sorted((target.band, target.stride) for target in dataset.targets) == [
        ("all", 8), ("all", 16), ("low", 8), ("low", 16),
    ]  # fmt: skip
    decoded = []
    read = cache.Codec.coefficients
    monkeypatch.setattr(
        cache.Codec,
        "coefficients",
        lambda self, code, band="all", **under: decoded.append(band) or read(self, code, band, **under),
    )
    item = dataset[0, 1]
    assert sorted(decoded) == ["all", "low"]
    drawn = draw(recipe.augment, generator_for(recipe.seed, 0, run.splits.train[1].key))
    for target in dataset.targets:
        alone = read_target(caches[target.teacher], target, run.splits.train[1].key, drawn.view, drawn.box)
        assert torch.equal(item[target.name], alone)


def test_views_that_are_not_extracted_are_identity_s_mirrored(features, tmp_path):
    losses = {"segment": 1.0, "imitate_features": 1.0}
    extracted = replace(recipe_of(features), stages={"joint": StageRecipe(steps=1, losses=losses)})
    teacher = replace(extracted.teachers["drawn"], views=["identity"])
    with pytest.raises(ValueError, match=r"augment\.views draws hflip.* or set teachers\.drawn\.mirror=true"):
        replace(extracted, teachers={"drawn": teacher})
    recipe = replace(extracted, teachers={"drawn": replace(teacher, mirror=True)})
    run = run_of(recipe, tmp_path)
    assert {view for _, view in read_records(run, "drawn", learning=True)} == {"identity"}
    caches, sets, seen = open_caches(run), [], set()
    for one in (extracted, recipe):
        dataset = TrainingSet(run.splits.train, one, caches)
        dataset.targets = plan_targets(one, caches, create_student(one, caches))
        sets.append(dataset)
    (codec,) = caches["drawn"].codecs.values()
    likeness = []
    for epoch, number in product(range(4), range(8)):
        drawn = draw(recipe.augment, generator_for(recipe.seed, epoch, run.splits.train[number].key))
        seen.add(drawn.view)
        items = [dataset[epoch, number] for dataset in sets]
        (name,) = {target.name for target in sets[0].targets if target.stride == 8}
        assert torch.equal(*(item[name] for item in items)) == (drawn.view == "identity")
        mask = resize(items[0]["mask"][None, None].float(), items[0][name].shape[-2:])[0, 0]
        disc = torch.stack([mask, *(codec.inverse(item[name])[0] for item in items)])  # it is in the first channel
        likeness.append(torch.corrcoef(disc.flatten(1))[0, 1:])
    of_view, of_identity = torch.stack(likeness).nanmean(dim=0)
    assert len(seen) == 4 and of_identity > 0.9 * of_view > 0.5
