from __future__ import annotations

import math

import pytest
import torch

from distill import losses
from distill.distiller import Distiller, Target
from students import create


def disc(size: int = 32, radius: float = 9) -> torch.Tensor:
    line = torch.arange(size) - (size - 1) / 2
    return (line[:, None] ** 2 + line**2 < radius**2).to(torch.uint8)[None]


def test_segment_is_log_two_plus_one_minus_dice_where_the_student_knows_nothing():
    mask = disc()
    area, pixels = int(mask.sum()), mask.numel()
    dice = (area + 1) / (pixels / 2 + area + 1)
    value = losses.segment(torch.zeros(1, 1, 32, 32), mask)
    assert value.item() == pytest.approx(math.log(2) + 1 - dice, abs=1e-5)


def test_segment_vanishes_for_a_sure_and_right_student():
    logits = (disc().float()[:, None] - 0.5) * 100
    assert losses.segment(logits, disc()).item() == pytest.approx(0, abs=1e-4)
    several = torch.cat([-logits, logits], dim=1)
    assert losses.segment(several, disc()).item() == pytest.approx(0, abs=1e-4)


def test_ignored_pixels_have_no_say():
    mask = disc()
    mask[:, :8] = losses.IGNORE
    logits = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[:, :, :8] = 50.0
    for term in (losses.segment, losses.boundary):
        assert term(logits, mask).item() == pytest.approx(term(other, mask).item(), abs=1e-6)


def test_the_contour_has_half_the_say_whatever_its_area():
    mask = disc()
    band = losses.contour_band(mask, width=1)
    assert 0.02 < band.float().mean() < 0.2
    wrong_on_contour = torch.where(band, -3.0, 3.0)[:, None] * (2 * mask.float()[:, None] - 1)
    value = losses.boundary(wrong_on_contour, mask).item()
    assert value == pytest.approx(0.5 * (math.log1p(math.exp(3)) + math.log1p(math.exp(-3))), abs=1e-4)


def test_imitate_low_is_the_mixture_it_says():
    target = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert losses.imitate_low(target, target).item() == pytest.approx(0, abs=1e-6)
    opposite = losses.imitate_low(-target, target).item()
    assert opposite == pytest.approx(0.9 * 2 + 0.1 * ((6 - 0.5) + (8 - 0.5)) / 2, abs=1e-5)


def test_imitate_high_is_in_units_of_the_band_s_deviation():
    target = torch.full((1, 3, 2, 2), 0.2)
    assert losses.imitate_high(target / 0.1, target, deviation=0.1).item() == 0
    assert losses.imitate_high(torch.zeros_like(target), target, deviation=0.1).item() == pytest.approx(1.5)


@pytest.mark.parametrize("band", ["low", "high"])
def test_imitation_reaches_the_encoder_and_neither_the_decoder_nor_the_target(band):
    student = create("unet", width=2)
    target = Target("t", "m", band, 8, (4, 4), 5, 0.5)
    distiller = Distiller(student, [target])
    wanted = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    _, projected = distiller(torch.randn(2, 3, 32, 32), (target.name,))
    term = losses.imitate_low if band == "low" else lambda p, t: losses.imitate_high(p, t, deviation=0.5)
    term(projected[target.name], wanted.detach()).backward()
    reached = {name for name, p in distiller.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("student.encoder.levels.0") for name in reached)
    assert any(name.startswith("projections") for name in reached)
    assert not any(name.startswith(("student.decoder", "student.head", "student.encoder.levels.4")) for name in reached)
    assert wanted.grad is None


@pytest.mark.parametrize("term", [losses.segment, losses.boundary])
def test_task_terms_reach_every_parameter_of_the_student(term):
    student = create("unet", width=2)
    term(student(torch.randn(2, 3, 32, 32)), disc().expand(2, -1, -1)).backward()
    assert all(p.grad is not None for p in student.parameters())
    weights = [p for name, p in student.named_parameters() if name.endswith("weight")]
    assert all(p.grad.abs().sum() > 0 for p in weights)
