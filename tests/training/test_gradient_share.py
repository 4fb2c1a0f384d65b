"""Imitation held at a share of the other terms' gradient (`imitate.gradient_share`)."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from small_run import recipe_of, run_of, train_killed_at, weights_of, write_features

from distill.config.schema import ImitateRecipe
from distill.training.gradient_share import gradient_ratio, imitation_factor, smoothed
from distill.training.plan import plan_training
from distill.training.state import build_state

training = import_module("distill.training.train")
ALONE = SimpleNamespace(num_processes=1)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches") / "drawn"
    write_features(folder)
    return folder


def shared(features, share: float):
    recipe = recipe_of(features)
    return replace(recipe, imitate=ImitateRecipe(gradient_share=share))


def norm_of(state, batch, chosen) -> float:
    """The norm of the gradient of the chosen weighted terms of the first stage, at the encoder."""
    span, targets = state.plan.spans[0], state.dataset.targets
    size = (int(batch["mask"].shape[-2]), int(batch["mask"].shape[-1]))
    logits, projected = state.model(state.inputs(batch), size, tuple(target.name for target in targets))
    terms = training.compute_losses(span, targets, logits=logits, projected=projected, batch=batch)
    loss = sum(span.stage.losses[name] * term for name, term in terms.items() if chosen(name))
    reached = torch.autograd.grad(loss, list(state.student.encoder.parameters()), allow_unused=True)
    return float(torch.cat([gradient.flatten() for gradient in reached if gradient is not None]).norm())


def test_the_factor_makes_the_norm_of_imitation_the_share_of_the_task_s(features, tmp_path):
    state = build_state(plan_training(run_of(shared(features, 0.5), tmp_path / "run")))
    span = state.plan.spans[0]
    training.begin_stage(state, span)
    batch = next(iter(training.load_batches(state, span)))
    task, imitation = (norm_of(state, batch, chosen) for chosen in (lambda n: n == "segment", lambda n: n != "segment"))
    terms, _, _ = training.backward(state, span, batch, measure=True)
    assert float(terms["imitate_factor"]) * imitation == pytest.approx(0.5 * task, rel=1e-4)
    expected = terms["segment"] + terms["imitate_factor"] * terms["imitate_low"]
    assert float(terms["loss"]) == pytest.approx(float(expected), rel=1e-6)


def test_between_measurements_the_factor_stays_and_is_logged(features, tmp_path):
    run = run_of(shared(features, 0.5), tmp_path / "run")
    training.train(run)
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert all(line["imitate_factor"] > 0 for line in lines if "loss" in line)


def test_a_killed_training_continues_bit_identical(features, tmp_path, monkeypatch):
    whole, killed = (run_of(shared(features, 0.5), tmp_path / name) for name in ("whole", "killed"))
    training.train(whole)
    train_killed_at(5, killed, monkeypatch)
    assert all(torch.equal(a, weights_of(killed)[name]) for name, a in weights_of(whole).items())


def test_a_stage_without_imitation_trains_as_before(tmp_path):
    plain, held = run_of(recipe_of(), tmp_path / "plain"), run_of(shared(None, 0.5), tmp_path / "held")
    for run in (plain, held):
        training.train(run)
    assert all(torch.equal(a, weights_of(held)[name]) for name, a in weights_of(plain).items())
    assert "imitate_factor" not in (held.folder / "log.jsonl").read_text()


def test_what_only_one_group_reaches_does_not_count():
    both, own = torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.tensor(5.0))
    weighted = {"segment": 3 * both.sum() + own**2, "imitate_low": both.sum()}
    assert gradient_ratio(weighted, [both, own], ALONE) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "weighted",
    [
        lambda weight: {"segment": weight.sum()},
        lambda weight: {"imitate_low": weight.sum()},
        lambda weight: {"segment": weight.sum(), "imitate_low": 0 * weight.sum()},
        lambda weight: {"segment": weight.sum() * float("inf"), "imitate_low": weight.sum()},
    ],
)
def test_without_two_gradients_nothing_is_measured(weighted):
    weight = torch.nn.Parameter(torch.ones(2))
    assert gradient_ratio(weighted(weight), [weight], ALONE) is None


def test_processes_average_their_norms():
    weight = torch.nn.Parameter(torch.ones(1))
    two = SimpleNamespace(num_processes=2, reduce=lambda norms, reduction: (norms + torch.tensor([6.0, 1.0])) / 2)
    assert (
        gradient_ratio(
            {"segment": 2 * weight.sum(), "dice": 0 * weight.sum(), "imitate_mask": weight.sum()}, [weight], two
        )
        == 4
    )


def test_the_factor_follows_the_geometric_mean():
    assert smoothed(None, 2.0) == 2.0 and smoothed(3.0, None) == 3.0 and smoothed(None, None) is None
    assert smoothed(1.0, 16.0) == pytest.approx(16**0.1)
    assert imitation_factor(0.5, None) == 1.0 and imitation_factor(0.5, 4.0) == 2.0


def test_a_negative_share_is_refused():
    with pytest.raises(ValueError, match=r"imitate\.gradient_share is -0\.5, but must not be negative"):
        ImitateRecipe(gradient_share=-0.5)
