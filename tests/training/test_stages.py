"""Stages beyond the plain: steps instead of epochs, averaged weights, early ends, unlabelled images, collapse."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from importlib import import_module, invalidate_caches
from itertools import pairwise

import numpy as np
import pytest
import torch
from published import write_student
from small_run import IMAGE_SIZE, VIEWS, disc_splits, recipe_of, run_of, train_killed_at, weights_of

from distill.config.schedule import learning_rate_at, spans_of
from distill.config.schema import (
    AugmentRecipe,
    EvaluateRecipe,
    OptimiserRecipe,
    Recipe,
    StageRecipe,
    StudentRecipe,
    TeacherRecipe,
)
from distill.data.sources.unlabelled import unlabel
from distill.distillation.dataset import TrainingSet
from distill.distillation.feature_variance import feature_variance
from distill.distillation.loading import loader
from distill.distillation.sampler import Batches
from distill.runs.build import create_student
from distill.runs.checks import check
from distill.runs.fingerprint import essence, fingerprint_features, fingerprint_run
from distill.training.parameters import averaged
from distill.training.plan import plan_training
from distill.training.state import build_state
from distill.training.train import batches_of, train, train_step
from students import create

training, validation, variance = (
    import_module(f"distill.{name}")
    for name in ("training.train", "training.validation", "distillation.feature_variance")
)


def half_unlabelled(run):
    splits = run.splits
    return replace(splits, train=splits.train[:4], unlabelled=tuple(map(unlabel, splits.train[4:])))


def lines_of(run) -> list[dict]:
    return [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]


def test_a_stage_is_as_long_as_its_steps_say():
    stages = {
        "one": StageRecipe(steps=5, losses={"segment": 1.0}),
        "two": StageRecipe(epochs=2, losses={"segment": 1.0}),
    }
    spans = spans_of(replace(recipe_of(), stages=stages), labelled=28)
    assert [(s.start, s.stop, s.per_epoch) for s in spans] == [(0, 5, 7), (5, 19, 7)]
    nothing = replace(stages["two"], steps=0)
    assert not nothing.runs
    with pytest.raises(ValueError, match="no stage with at least one epoch or step"):
        replace(recipe_of(), stages={"one": nothing})


def test_stages_of_other_batches_do_not_draw_the_same_epochs_again(features):
    plain, imitating = {"segment": 1.0}, {"segment": 1.0, "imitate_low": 1.0}
    losses = {"first": plain, "second": imitating, "third": plain}
    stages = {name: StageRecipe(epochs=2, losses=terms) for name, terms in losses.items()}
    recipe = replace(recipe_of(features), stages=stages)
    spans = spans_of(recipe, labelled=28, unlabelled=40)
    assert [(span.unlabelled, span.origin) for span in spans] == [(0, (0, 0)), (2, (14, 2)), (0, (28, 3))]
    drawn = []
    for span in spans:
        options = {"start": span.start, "stop": span.stop, "share": span.unlabelled, "origin": span.origin}
        batches = Batches(images=28, batch=4, seed=0, rank=0, ranks=1, unlabelled=40, **options)
        drawn.append({index for batch in batches for index in batch if index[1] < 28})
    assert not drawn[0] & drawn[1]
    assert not drawn[1] & drawn[2]
    assert [span.origin for span in spans_of(recipe, labelled=28)] == [(0, 0)] * 3, "as ever where batches are alike"


def rates_of(stages, *, labelled=20):
    """The learning rate of every step, for stages of a recipe in batches of 4."""
    recipe = replace(recipe_of(), stages=stages, optimiser=OptimiserRecipe(batch_size=4, warmup=0.2))
    return [
        learning_rate_at(step - span.schedule[0], span.schedule[1] - span.schedule[0], recipe.optimiser)
        for span in spans_of(recipe, labelled=labelled)
        for step in range(span.start, span.stop)
    ]


def test_a_stage_may_restart_the_schedule_for_itself_and_those_after_it():
    plain = StageRecipe(steps=10, losses={"segment": 1.0})
    whole = rates_of({"one": plain, "two": plain, "three": plain})
    assert whole == rates_of({"one": replace(plain, restart=True), "two": plain, "three": plain})
    assert whole == [learning_rate_at(step, 30, OptimiserRecipe(warmup=0.2)) for step in range(30)]
    again = rates_of({"one": plain, "two": replace(plain, restart=True), "three": plain})
    assert again == [*rates_of({"one": plain}), *rates_of({"two": plain, "three": plain})]
    assert again[10] < again[11] < again[13] == max(again), "warm-up"
    idle = replace(plain, steps=0, restart=True)
    assert rates_of({"one": plain, "idle": idle, "two": plain}) == rates_of({"one": plain, "two": plain})


def test_a_restarted_stage_trains_at_the_rates_of_its_own_schedule(tmp_path):
    plain = StageRecipe(steps=4, losses={"segment": 1.0})
    run = run_of(replace(recipe_of(), stages={"one": plain, "two": replace(plain, restart=True)}), tmp_path / "run")
    state, taken = build_state(plan_training(run)), []
    hook = state.optimiser.optimizer.register_step_pre_hook
    hook(lambda optimiser, *_: taken.append(optimiser.param_groups[0]["lr"]))
    for span in state.plan.spans:
        training.run_stage(state, span)
    assert len(taken) == 8
    assert taken[:4] == taken[4:] == [learning_rate_at(step, 4, run.recipe.optimiser) for step in range(4)]


def test_what_the_optimiser_remembers_of_a_frozen_part_is_gone_when_it_is_trained_again(tmp_path, monkeypatch):
    plain = StageRecipe(steps=3, losses={"segment": 1.0})
    stages = {"one": plain, "two": replace(plain, freeze=["encoder"]), "three": plain}
    recipe = replace(recipe_of(), stages=stages)
    state = build_state(plan_training(run_of(recipe, tmp_path / "run")))

    def steps_of(part):
        found = [state.optimiser.optimizer.state.get(p, {}).get("step", 0) for p in part.parameters()]
        (steps,) = {int(step) for step in found}
        return steps

    counts = []
    for span in state.plan.spans:
        training.run_stage(state, span)
        counts.append((steps_of(state.student.encoder), steps_of(state.student.decoder)))
    assert counts == [(3, 3), (0, 6), (3, 9)]
    whole, killed = run_of(recipe, tmp_path / "whole"), run_of(recipe, tmp_path / "killed")
    train(whole)
    train_killed_at(5, killed, monkeypatch)
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(killed)[name]), name


def first_step(tmp_path, *, stage: StageRecipe, **optimiser):
    """The distance of each weight in a first step, at the full rate and without decay, and the norm of its gradient."""
    settings = OptimiserRecipe(learning_rate=0.01, weight_decay=0, warmup=0, **optimiser)
    state = build_state(
        plan_training(run_of(replace(recipe_of(), stages={"one": stage}, optimiser=settings), tmp_path))
    )
    before = {name: p.detach().clone() for name, p in state.student.named_parameters()}
    norms = []
    state.optimiser.optimizer.register_step_pre_hook(lambda *_: norms.append(gradient_norm(state.student)))
    span = state.plan.spans[0]
    batch = next(iter(loader(state.dataset, batches_of(state, span, start=0), workers=0)))
    train_step(state, span, 0, batch)
    moved = {name: (p.detach() - before[name]).abs().max().item() for name, p in state.student.named_parameters()}
    return moved, norms[0]


def gradient_norm(network) -> float:
    return float(torch.stack([p.grad.norm() for p in network.parameters()]).norm())


def test_a_stage_has_a_rate_of_its_own_and_so_has_a_part(tmp_path):
    stage = StageRecipe(epochs=1, losses={"segment": 1.0}, lr_scale=0.5, part_lr_scale={"encoder": 0.1})
    moved, _ = first_step(tmp_path, stage=stage)
    for part, rate in (("encoder", 0.0005), ("decoder", 0.005), ("head", 0.005)):
        longest = max(far for name, far in moved.items() if name.startswith(part))
        assert longest == pytest.approx(rate, rel=0.01), part  # AdamW's first step is its rate


def test_a_gradient_is_clipped_to_the_norm_asked_for(tmp_path):
    stage = StageRecipe(epochs=1, losses={"segment": 1.0})
    _, free = first_step(tmp_path / "free", stage=stage, gradient_clip=0)
    _, clipped = first_step(tmp_path / "clipped", stage=stage, gradient_clip=0.01)
    assert free > 0.1
    assert clipped == pytest.approx(0.01, rel=1e-3)


def test_a_part_that_a_later_stage_freezes_stays_where_that_stage_found_it(tmp_path):
    stages = {
        "free": StageRecipe(steps=4, losses={"segment": 1.0}),
        "frozen": StageRecipe(steps=4, losses={"segment": 1.0}, freeze=["encoder"]),
    }
    state = build_state(plan_training(run_of(replace(recipe_of(), stages=stages), tmp_path)))

    def encoder_and_rest():
        tensors = {name: tensor.clone() for name, tensor in state.student.state_dict().items()}
        return [[t for name, t in tensors.items() if name.startswith("encoder") == part] for part in (True, False)]

    places = [encoder_and_rest()]
    for span in state.plan.spans:
        training.run_stage(state, span)
        places.append(encoder_and_rest())
    changed = [
        [any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in zip(one, two, strict=True)]
        for one, two in pairwise(places)
    ]
    assert changed == [[True, True], [False, True]]  # its statistics and what AdamW remembers of it included


def test_averaged_weights_follow_the_weights_and_their_statistics():
    student = create("unet", width=2)
    average = averaged(student, OptimiserRecipe(ema=0.75))
    average.update_parameters(student)
    before = student.state_dict()["head.bias"].clone()
    with torch.no_grad():
        student.head.bias += 1
    norm = student.encoder.levels[0][1]
    norm.running_mean += 2
    norm.num_batches_tracked += 7
    average.update_parameters(student)
    assert torch.allclose(average.module.head.bias, before + 0.25)
    assert torch.allclose(average.module.encoder.levels[0][1].running_mean, torch.full((2,), 0.5))
    assert average.module.encoder.levels[0][1].num_batches_tracked == 0  # which nothing reads


def test_averaged_weights_are_what_is_kept_and_a_killed_run_keeps_the_same(tmp_path, monkeypatch):
    recipe = replace(recipe_of(), optimiser=OptimiserRecipe(batch_size=4, learning_rate=1e-2, ema=0.9))
    whole, killed = run_of(recipe, tmp_path / "whole"), run_of(recipe, tmp_path / "killed")
    train(whole)
    train_killed_at(7, killed, monkeypatch)
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(killed)[name]), name
    plain = run_of(replace(recipe, optimiser=replace(recipe.optimiser, ema=0.0)), tmp_path / "plain")
    train(plain)
    assert any(not torch.equal(tensor, weights_of(plain)[name]) for name, tensor in weights_of(whole).items())


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_share_of_the_first_weights_is_mixed_into_those_that_are_kept(tmp_path, monkeypatch, ema):
    start = write_student(tmp_path / "start")
    optimiser = OptimiserRecipe(batch_size=4, learning_rate=1e-2, ema=ema)
    recipe = replace(recipe_of(), optimiser=optimiser, evaluate=EvaluateRecipe(every=1000), image_size=IMAGE_SIZE)
    kept = {}
    for name, share in (("plain", 0.0), ("mixed", 0.25), ("killed", 0.25)):
        student = StudentRecipe(width=4, init=str(start), init_share=share)
        run = run_of(replace(recipe, student=student), tmp_path / name)
        train_killed_at(7, run, monkeypatch) if name == "killed" else train(run)
        kept[name] = weights_of(run)
    first = create_student(replace(recipe, student=StudentRecipe(width=4, init=str(start)))).state_dict()
    for name, tensor in kept["plain"].items():
        wanted = tensor.lerp(first[name], 0.25) if tensor.is_floating_point() else tensor
        assert torch.equal(kept["mixed"][name], wanted), name
        assert torch.equal(kept["mixed"][name], kept["killed"][name]), name
    assert any(not torch.equal(tensor, first[name]) for name, tensor in kept["plain"].items())


def test_a_share_of_first_weights_needs_a_start_with_the_same_head(tmp_path):
    start = str(write_student(tmp_path))
    with pytest.raises(ValueError, match=r"student\.init_share is 0\.5, but there is no student\.init"):
        StudentRecipe(init_share=0.5)
    with pytest.raises(ValueError, match=r"student\.init_share is 1, but must lie in \[0, 1\)"):
        StudentRecipe(init=start, init_share=1)
    with pytest.raises(ValueError, match=r"the head is not that of student\.init=.*; set student\.init_share=0"):
        create_student(replace(recipe_of(), student=StudentRecipe(width=4, init=start, init_share=0.5, classes=3)))


def test_a_stage_without_progress_ends_early_and_the_next_one_begins(tmp_path, monkeypatch, caplog):
    figures = iter([0.5, 0.4, 0.3, 0.9, 0.8, 0.95, 0.7])
    monkeypatch.setattr(validation, "validate", lambda *args, **named: {"dice": next(figures)})
    stages = {name: StageRecipe(epochs=4, losses={"segment": 1.0}) for name in ("first", "second")}
    recipe = replace(recipe_of(), stages=stages, evaluate=EvaluateRecipe(every=1, patience=2))
    run = run_of(recipe, tmp_path / "run")
    with caplog.at_level(logging.INFO, logger="bandpass"):
        summary = train(run)
    assert "stage 'first' ends at step 6: no better score for 2 scores" in caplog.text
    scored = [(line["stage"], line["step"]) for line in lines_of(run) if "validation_dice" in line]
    assert scored == [("first", s) for s in (2, 4, 6)] + [("second", s) for s in (10, 12, 14, 16)]
    assert (summary["steps"], summary["best_step"], summary["validation_dice"]) == (6 + 8, 14, 0.95)


def test_validation_does_not_end_a_stage_that_trains_no_logits(features, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "validate", lambda *args, **named: {"dice": 0.1})
    stages = {"distil": StageRecipe(epochs=4, losses={"imitate_low": 1.0})}
    recipe = recipe_of(features, stages=stages, evaluate=EvaluateRecipe(every=1, patience=1))
    assert train(run_of(recipe, tmp_path / "run"))["steps"] == 8
    task = {"task": StageRecipe(epochs=4, losses={"segment": 1.0})}
    assert train(run_of(replace(recipe, stages=task), tmp_path / "other"))["steps"] == 4


def test_processes_that_cannot_share_a_batch_are_told(features, tmp_path, monkeypatch):
    run = run_of(recipe_of(features), tmp_path / "run")
    monkeypatch.setattr(type(run.accelerator), "num_processes", property(lambda self: 2))
    splits = half_unlabelled(run)
    with pytest.raises(
        ValueError, match="has 3 labelled and 1 unlabelled images, but each must be a multiple of the 2"
    ):
        check(replace(run, splits=replace(splits, unlabelled=splits.unlabelled[:1])))
    check(replace(run, splits=splits))


def test_unlabelled_images_are_a_fixed_share_of_every_batch_and_come_round_evenly():
    options = {"images": 20, "batch": 8, "seed": 1, "start": 0, "stop": 14, "unlabelled": 7, "share": 4}
    batches = list(Batches(**options, rank=0, ranks=1))
    assert all([index >= 20 for _, index in batch] == [False] * 4 + [True] * 4 for batch in batches)
    counts = np.bincount([index - 20 for batch in batches for _, index in batch if index >= 20])
    assert counts.tolist() == [8] * 7
    labelled = [index for batch in batches[:5] for _, index in batch if index < 20]
    assert sorted(labelled) == list(range(20))
    parts = [list(Batches(**options, rank=rank, ranks=2)) for rank in (0, 1)]
    for whole, halves in zip(batches, zip(*parts, strict=True), strict=True):
        assert sorted(whole) == sorted([*halves[0], *halves[1]])
        assert [sum(index >= 20 for _, index in half) for half in halves] == [2, 2]


def test_only_stages_that_imitate_mix_unlabelled_images_in(features):
    recipe = recipe_of(features, stages={
        "distil": StageRecipe(epochs=1, losses={"imitate_low": 1.0}),
        "task": StageRecipe(epochs=1, losses={"segment": 1.0}),
    })  # fmt: skip
    spans = spans_of(recipe, labelled=8, unlabelled=5)
    assert [(s.unlabelled, s.stop - s.start) for s in spans] == [(2, 2), (0, 2)], "equally long with and without"
    assert spans_of(recipe, labelled=8, unlabelled=1)[0].unlabelled == 1, "a batch keeps its size"
    without = replace(recipe, data=replace(recipe.data, unlabelled_share=0))
    assert [(s.unlabelled, s.stop - s.start) for s in spans_of(without, labelled=8, unlabelled=5)] == [(0, 2), (0, 2)]


def test_unlabelled_images_are_taught_and_never_asked_for_a_mask(features, tmp_path):
    run = run_of(recipe_of(features), tmp_path / "run")
    splits = half_unlabelled(run)
    dataset = TrainingSet((*splits.train, *splits.unlabelled), run.recipe, {})
    batches = Batches(images=4, batch=4, seed=0, start=0, stop=2, rank=0, ranks=1, unlabelled=4, share=2)
    for batch in loader(dataset, batches, workers=0):
        assert (batch["mask"] == 255).flatten(1).all(1).tolist() == [False, False, True, True]
    train(replace(run, splits=splits))
    steps = [line["step"] for line in lines_of(run) if "imitate_low" in line]
    assert steps, "the imitation terms were there"


def test_changes_of_camera_reach_the_image_alone_and_take_amplitudes_from_labelled_images(features, tmp_path):
    plain, look = (AugmentRecipe(**more) for more in ({}, {"camera": 1.0, "amplitudes": 1.0}))
    run = run_of(recipe_of(features), tmp_path)
    splits = half_unlabelled(run)
    samples = (*splits.train, *splits.unlabelled)
    before, after = (TrainingSet(samples, replace(run.recipe, augment=augment), {}) for augment in (plain, look))
    assert after.donors == 4, "the arms of a comparison differ in unlabelled images"
    for index in ((0, 0), (3, 5)):
        left, right = before[index], after[index]
        assert torch.equal(left["mask"], right["mask"])
        assert not torch.equal(left["image"], right["image"])
        assert torch.equal(right["image"], after[index]["image"])
    assert not torch.equal(after[(0, 1)]["image"], after[(1, 1)]["image"])


def test_the_feature_variance_of_a_map_is_its_variance_and_effective_rank():
    random = torch.Generator().manual_seed(0)
    target = torch.randn(8, 6, 20, 20, generator=random)
    alike = feature_variance(target, target)
    assert alike.target_variance == pytest.approx(1, abs=0.05)
    assert alike.target_rank == pytest.approx(6, abs=0.05)
    assert not alike.collapsed
    line = torch.randn(8, 1, 20, 20, generator=random) * torch.ones(1, 6, 1, 1)
    assert feature_variance(line, target).rank == pytest.approx(1, abs=1e-3)
    assert feature_variance(0.05 * target, target).collapsed
    assert feature_variance(torch.zeros_like(target), target).collapsed
    wide = torch.randn(8, 40, 20, 20, generator=random)
    narrow = torch.randn(8, 2, 20, 20, generator=random)[:, :1] * torch.ones(1, 40, 1, 1)
    assert feature_variance(narrow, wide).collapsed
    two = torch.einsum(
        "kc,nchw->nkhw", torch.randn(40, 2, generator=random), torch.randn(8, 2, 20, 20, generator=random)
    )
    assert feature_variance(two, wide).collapsed
    assert not feature_variance(two, wide, channels=2).collapsed, "two channels cannot say more than two things"


def test_a_collapsed_projection_is_named(features, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(
        variance,
        "feature_variance",
        lambda projected, target, **_: feature_variance(torch.zeros_like(projected), target),
    )
    run = run_of(recipe_of(features), tmp_path / "run")
    with caplog.at_level(logging.WARNING, logger="bandpass"):
        summary = train(run)
    assert summary["collapsed"][0] == "semantic: drawn/neck/low/16"
    assert "the projection of drawn/neck/low/16 has collapsed" in caplog.text
    spreads = [line["spread"] for line in lines_of(run) if "spread" in line]
    assert spreads[0]["drawn/neck/low/8"]["variance"] == 0


# Where a default changes, digest.DEFAULTS must be raised, so that no old run is taken for a new one.
KNOWN = {
    "image_size": 128, "seed": 0, "precision": "fp32",
    "optimiser": {"learning_rate": 2e-3, "weight_decay": 1e-2, "batch_size": 16, "warmup": 0.05, "schedule": "cosine",
                  "gradient_clip": 1.0, "ema": 0.0, "sync_batchnorm": True, "ema_warmup": False, "decay_norms": True,
                  "accumulate": 1},
    "augment": {"views": list(VIEWS), "min_crop": 0.6, "empty": 0.0, "erase": 0.0, "colour": 0.1, "camera": 0.0,
                "amplitudes": 0.0, "cutmix": 0.0, "sizes": [1.0]},
    "imitate": {"low": [16, 8], "high": [8], "all": [16, 8], "bands": "cosine", "temperature": 1.0, "fuse": 0,
                "gradient_share": 0.0},
    "evaluate": {"bootstrap": 2000, "every": 5.0, "patience": 0, "select": "dice", "select_from": "all",
                 "empty_regions": False, "erased": False},
    # Stands in the names of caches, whatever the default:
    "cache": {"fidelity": 0.8, "calibration": 256, "shells": False},
}  # fmt: skip


def test_a_default_of_the_schema_is_not_changed_unnoticed():
    for name, expected in KNOWN.items():
        found = getattr(recipe_of(), name) if name in ("seed", "precision") else None
        fields = {field.name: field for field in Recipe.__dataclass_fields__.values()}
        default = fields[name].default_factory() if isinstance(expected, dict) else fields[name].default
        found = default.__dict__ if isinstance(expected, dict) else default
        assert found == expected, f"{name}: raise digest.DEFAULTS, then change this test"


def test_a_network_or_teacher_of_the_user_s_own_is_known_by_the_file_that_defines_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = recipe_of()
    own = replace(recipe, student=replace(recipe.student, name="nets_of_mine:Net"))
    teacher = TeacherRecipe(adapter="nets_of_mine:Eyes", weights="given")
    named = []
    for number, text in enumerate(("relu", "tanh", "tanh ")):
        (tmp_path / "nets_of_mine.py").write_text(f"# {text}")
        os.utime(tmp_path / "nets_of_mine.py", (number, number))
        invalidate_caches()
        run = fingerprint_run(own, splits="s", caches={})
        named.append((run, fingerprint_features(teacher, fidelity=0.8, calibration=[])))
    assert len(set(named)) == 3
    assert all(len({pair[place] for pair in named}) == 3 for place in (0, 1))


def test_a_run_is_named_by_what_differs_from_the_defaults_in_the_order_of_stages():
    recipe = recipe_of()
    assert essence(OptimiserRecipe(ema=0.5, batch_size=16)) == {"ema": 0.5}
    names = [fingerprint_run(one, splits="s", caches={}) for one in (
        recipe,
        replace(recipe, stages=dict(reversed(recipe.stages.items()))),
        replace(recipe, optimiser=replace(recipe.optimiser, ema=0.5)),
    )]  # fmt: skip
    assert len(set(names)) == 3
    assert (
        fingerprint_run(replace(recipe, name="other", home="elsewhere", workers=3), splits="s", caches={}) == names[0]
    )
    assert fingerprint_run(recipe, splits="other", caches={}) != names[0]
    assert disc_splits().digest == disc_splits().digest
