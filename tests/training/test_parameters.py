"""Parameters in training: weight decay, frozen layers, the moving average, and what a loss does not reach."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from small_run import recipe_of, run_of

from distill.config.schedule import Span
from distill.config.schema import OptimiserRecipe, StageRecipe
from distill.distillation.distiller import Distiller
from distill.distillation.targets import Target
from distill.training.parameters import averaged, frozen_by_author, param_groups, reaches_all, set_frozen
from distill.training.plan import plan_training
from distill.training.state import build_state, share_batch_norm
from students import create

training = import_module("distill.training.train")
LOW = Target("t", "m", "low", 8, (4, 4), 5, 0.5)


def span_of(*, freeze=(), **losses):
    return Span("stage", StageRecipe(epochs=1, losses=losses, freeze=list(freeze)), 0, 1, per_epoch=1)


def test_every_parameter_is_in_one_group_and_decay_may_spare_norms_and_biases():
    distiller = Distiller(create("unet", width=2), [LOW])
    for decay_norms in (True, False):
        groups = param_groups(distiller, decay_norms=decay_norms)
        grouped = [parameter for group in groups for parameter in group["params"]]
        assert {id(p) for p in grouped} == {id(p) for p in distiller.parameters()}
        assert len(grouped) == len(list(distiller.parameters()))
        spared = [p for group in groups if group.get("weight_decay") == 0 for p in group["params"]]
        assert len(spared) == (0 if decay_norms else sum(p.ndim <= 1 for p in distiller.parameters()))
        assert all(p.ndim <= 1 for p in spared)
        assert {group["part"] for group in groups} == {"encoder", "decoder", "head", "rest"}


def test_weight_decay_that_spares_norms_and_biases_leaves_them_alone_in_training(tmp_path):
    settings = OptimiserRecipe(learning_rate=1e-9, weight_decay=1e6, warmup=0, schedule="constant", decay_norms=False)
    recipe = replace(recipe_of(), optimiser=replace(settings, batch_size=4))
    state = build_state(plan_training(run_of(recipe, tmp_path)))
    before = {name: p.detach().clone() for name, p in state.student.named_parameters()}
    training.run_stage(state, state.plan.spans[0])
    shrunk = {name: float((p.detach() / before[name]).nanmean()) for name, p in state.student.named_parameters()}
    for name, parameter in state.student.named_parameters():
        if parameter.ndim > 1:
            assert shrunk[name] < 0.999, name
        else:
            assert torch.allclose(parameter, before[name], atol=1e-7), name


def test_layers_that_a_student_has_frozen_itself_stay_frozen_with_their_statistics():
    student = create("unet", width=2)
    student.encoder.levels[0].requires_grad_(False)
    kept = frozen_by_author(student)
    assert kept
    for parts in ([], ["decoder"], []):
        set_frozen(student, parts, kept=kept)
        resting = {name for name, p in student.named_parameters() if not p.requires_grad}
        assert resting == kept | {name for name, _ in student.named_parameters() if name.split(".")[0] in parts}
        assert not student.encoder.levels[0][1].training, "a batch norm"
        assert student.encoder.levels[1].training
    set_frozen(student, [])
    assert all(p.requires_grad for p in student.parameters())


def test_what_a_student_has_frozen_is_not_trained(tmp_path, monkeypatch):
    state_module = import_module("distill.training.state")
    create_student = state_module.create_student

    def frozen(*args):
        student = create_student(*args)
        student.encoder.levels[0].requires_grad_(False)
        return student

    monkeypatch.setattr(state_module, "create_student", frozen)
    state = build_state(plan_training(run_of(recipe_of(), tmp_path)))
    before = {name: tensor.clone() for name, tensor in state.student.state_dict().items()}
    training.run_stage(state, state.plan.spans[0])
    changed = {name for name, tensor in state.student.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith("encoder.levels.0") for name in changed)
    assert any(name.startswith("encoder.levels.1") for name in changed)


def weight_of_first(updates: int, optimiser: OptimiserRecipe) -> float:
    """The share of the first network in an average over so many more."""
    network = torch.nn.Linear(1, 1, bias=False)
    average = averaged(network, optimiser)
    network.weight.data.fill_(1)
    average.update_parameters(network)
    network.weight.data.fill_(0)
    for _ in range(updates):
        average.update_parameters(network)
    return float(average.module.weight.detach())


def test_an_average_that_warms_up_forgets_the_first_network():
    plain, warm = OptimiserRecipe(ema=0.998), OptimiserRecipe(ema=0.998, ema_warmup=True)
    assert weight_of_first(1000, plain) == pytest.approx(0.998**1000, rel=1e-3)
    assert weight_of_first(3, warm) == pytest.approx((2 / 11) * (3 / 12) * (4 / 13), rel=1e-5)
    assert weight_of_first(1000, warm) < 1e-9
    assert averaged(torch.nn.Linear(1, 1), OptimiserRecipe()) is None


def test_a_step_that_fp16_skips_is_not_averaged(tmp_path, monkeypatch):
    recipe = replace(recipe_of(), optimiser=OptimiserRecipe(batch_size=4, ema=0.9))
    for skipped in (True, False):
        state = build_state(plan_training(run_of(recipe, tmp_path / str(skipped))))
        monkeypatch.setattr(type(state.optimiser), "step_was_skipped", property(lambda _, value=skipped: value))
        training.run_stage(state, state.plan.spans[0])
        assert int(state.average.n_averaged) == (0 if skipped else state.counters.taken)


@pytest.mark.parametrize(
    ("losses", "freeze", "reached"),
    [
        ({"segment": 1.0, "imitate_low": 1.0}, (), True),
        ({"segment": 1.0}, (), False),  # the projection rests
        ({"imitate_low": 1.0}, (), False),  # the decoder does
        ({"segment": 1.0, "imitate_low": 1.0}, ("head",), False),
        ({"weight_norm": 1.0}, (), False),  # the projection rests
        ({"imitate_low": 1.0, "weight_norm": 1.0}, (), True),
    ],
)
def test_processes_look_for_resting_parameters_only_where_a_stage_has_any(losses, freeze, reached):
    distiller = Distiller(create("unet", width=2), [LOW])
    before = {name: tensor.clone() for name, tensor in distiller.state_dict().items()}
    options = {"inputs": torch.zeros(2, 3, 32, 32), "size": (32, 32)}
    assert reaches_all(distiller, span_of(freeze=freeze, **losses), (LOW,), **options) == reached
    assert all(torch.equal(tensor, before[name]) for name, tensor in distiller.state_dict().items())
    assert all(parameter.grad is None for parameter in distiller.parameters())
    assert reaches_all(Distiller(create("unet", width=2), ()), span_of(segment=1.0), (), **options)
    assert reaches_all(Distiller(create("unet", width=2), ()), span_of(weight_norm=1.0), (), **options)


@pytest.mark.parametrize("sync", [True, False])
def test_batch_norm_sees_the_whole_batch_on_gpus_and_warns_elsewhere(caplog, sync):
    optimiser = OptimiserRecipe(batch_size=4, sync_batchnorm=sync)

    def plan_on(device):
        accelerator = SimpleNamespace(device=torch.device(device), num_processes=2)
        recipe = replace(recipe_of(), optimiser=optimiser)
        return SimpleNamespace(run=SimpleNamespace(recipe=recipe, accelerator=accelerator))

    for device in ("cpu", "cuda"):
        student = create("unet", width=2)
        names = set(student.state_dict())
        caplog.clear()
        share_batch_norm(student, plan_on(device))
        shared = any(isinstance(module, torch.nn.SyncBatchNorm) for module in student.modules())
        assert shared == (sync and device == "cuda")
        assert ("batch norm sees 2 images, those of one of 2 processes" in caplog.text) == (not shared)
        assert set(student.state_dict()) == names


def test_layers_draw_otherwise_in_every_process(tmp_path, monkeypatch):
    state = build_state(plan_training(run_of(recipe_of(), tmp_path)))
    span, seeds = state.plan.spans[0], []
    batch = next(iter(training.load_batches(state, span)))
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    for rank in (0, 1, 2):
        monkeypatch.setattr(type(state.run.accelerator), "process_index", property(lambda _, rank=rank: rank))
        training.train_step(state, span, 5, batch)
    assert len(set(seeds)) == 3
    assert seeds[0] == 6 * training.SEED_STRIDE, "as of one process"
