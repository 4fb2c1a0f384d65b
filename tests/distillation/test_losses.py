from __future__ import annotations

import math

import pytest
import torch

from distill.config.registry import BAND_OF, FEATURE_LOSSES, MASK_LOSSES, TASK_LOSSES
from distill.config.schedule import Span
from distill.config.schema import StageRecipe
from distill.distillation import losses
from distill.distillation.criterion import compute_losses, loss_function
from distill.distillation.distiller import Distiller
from distill.distillation.targets import Target
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
    mask[:, :8] = losses.IGNORED
    logits = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[:, :, :8] = 50.0
    for term in (losses.segment, losses.boundary, losses.structure):
        assert term(logits, mask).item() == pytest.approx(term(other, mask).item(), abs=1e-6)


def test_the_structure_loss_weighs_a_contour_up_to_six_times():
    mask = torch.zeros(1, 352, 352, dtype=torch.uint8)
    mask[:, :, 176:] = 1  # a straight contour: beside it half of the 31 x 31 pixels around are of the other kind
    logits = torch.zeros(1, 1, 352, 352)
    around = torch.nn.functional.avg_pool2d(mask[:, None].float(), 31, stride=1, padding=15)
    weight = 1 + 5 * (around - mask[:, None]).abs()
    assert weight[0, 0, 176, 175].item() == pytest.approx(1 + 5 * 15 / 31)
    inside, whole = (weight * mask).sum().item(), weight.sum().item()
    overlap = 0.5 * inside
    iou = (overlap + 1) / (0.5 * whole + inside - overlap + 1)
    assert losses.structure(logits, mask).item() == pytest.approx(math.log(2) + 1 - iou, abs=1e-4)
    sure = (mask[:, None].float() - 0.5) * 100
    assert losses.structure(sure, mask).item() == pytest.approx(0, abs=1e-4)
    assert losses.structure(torch.cat([-sure, sure], dim=1), mask).item() == pytest.approx(0, abs=1e-4)


def test_the_contour_has_half_the_say_whatever_its_area():
    mask = disc()
    band = losses.contour_band(mask, width=1)
    assert 0.02 < band.float().mean() < 0.2
    wrong_on_contour = torch.where(band, -3.0, 3.0)[:, None] * (2 * mask.float()[:, None] - 1)
    value = losses.boundary(wrong_on_contour, mask).item()
    assert value == pytest.approx(0.5 * (math.log1p(math.exp(3)) + math.log1p(math.exp(-3))), abs=1e-4)


def test_the_edge_of_what_is_not_known_is_no_contour():
    mask = disc()
    unknown = mask.clone()
    unknown[:, :, 20:] = losses.IGNORED
    known = torch.zeros_like(mask, dtype=torch.bool)
    known[:, :, :17] = True  # further from the unknown than the filters reach
    bands = [losses.contour_band(one, width=2) for one in (mask, unknown)]
    assert torch.equal(bands[0] & known, bands[1] & known)
    assert not losses.contour_band(torch.where(mask > 0, mask, losses.IGNORED), width=2).any()


def test_cross_entropy_and_dice_are_the_two_halves_of_segment():
    logits = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    mask = disc().expand(2, -1, -1).clone()
    mask[:, :4] = losses.IGNORED
    known, truth = mask != losses.IGNORED, (mask == 1).float()
    p = logits[:, 0].sigmoid()
    entropy = -(truth * p.log() + (1 - truth) * (1 - p).log())[known].mean()
    assert losses.cross_entropy(logits, mask).item() == pytest.approx(entropy.item(), abs=1e-5)
    overlap = [2 * (p * truth)[i][known[i]].sum() + 1 for i in range(2)]
    total = [p[i][known[i]].sum() + truth[i][known[i]].sum() + 1 for i in range(2)]
    expected = 1 - sum(float(a / b) for a, b in zip(overlap, total, strict=True)) / 2
    assert losses.dice(logits, mask).item() == pytest.approx(expected, abs=1e-5)
    both = losses.cross_entropy(logits, mask) + losses.dice(logits, mask)
    assert losses.segment(logits, mask).item() == both.item()


def test_the_gradient_of_segment_is_rounded_once():
    logits = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(2)).bfloat16()
    mask = disc().expand(2, -1, -1)
    half, full = logits.clone().requires_grad_(), logits.float().requires_grad_()
    losses.segment(half, mask).backward(), losses.segment(full, mask).backward()
    assert torch.equal(half.grad, full.grad.bfloat16())


@pytest.mark.parametrize("name", sorted(TASK_LOSSES))
@pytest.mark.parametrize("classes", [1, 3])
def test_equal_class_weights_change_nothing_and_others_do(name, classes):
    term = loss_function(name)
    logits = torch.randn(2, classes, 32, 32, generator=torch.Generator().manual_seed(2))
    mask = (disc().expand(2, -1, -1) * torch.tensor([1, classes - 1 or 1])[:, None, None]).clone()
    mask[:, :4] = losses.IGNORED
    count = max(2, classes)
    plain, equal = term(logits, mask).item(), term(logits, mask, class_weights=torch.ones(count)).item()
    assert equal == pytest.approx(plain, rel=1e-5)
    other = term(logits, mask, class_weights=torch.tensor([1.0, 5.0, 3.0][:count])).item()
    assert (other == plain) == (name == "dice" and classes == 1)


def test_a_weighted_cross_entropy_and_dice_are_the_weighted_means_they_say():
    logits = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    mask = (disc().expand(2, -1, -1) * torch.tensor([1, 2])[:, None, None]).clone()
    mask[:, :4] = losses.IGNORED
    weights = torch.tensor([0.5, 4.0, 2.0])
    expected = torch.nn.functional.cross_entropy(logits, mask.long(), weight=weights, ignore_index=losses.IGNORED)
    assert losses.cross_entropy(logits, mask, class_weights=weights).item() == pytest.approx(expected.item(), rel=1e-5)
    p = logits.softmax(dim=1)[:, :, 4:]
    truth = torch.nn.functional.one_hot(mask[:, 4:].long(), 3).movedim(-1, 1)
    scores = (2 * (p * truth).sum((2, 3)) + 1) / (p.sum((2, 3)) + truth.sum((2, 3)) + 1)
    by_hand = ((1 - scores) * weights).sum() / (2 * weights.sum())
    assert losses.dice(logits, mask, class_weights=weights).item() == pytest.approx(by_hand.item(), rel=1e-5)
    binary = losses.cross_entropy(logits[:, :1], mask, class_weights=torch.tensor([1.0, 3.0])).item()
    weight = torch.where(mask > 0, 3.0, 1.0)[:, 4:]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, 0, 4:], (mask[:, 4:] > 0).float(), reduction="none"
    )
    assert binary == pytest.approx(((weight * entropy).sum() / weight.sum()).item(), rel=1e-5)


def test_imitate_low_is_the_mixture_it_says():
    target = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert losses.imitate_features(target, target).item() == pytest.approx(0, abs=1e-6)
    opposite = losses.imitate_features(-target, target).item()
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
    _, projected = distiller(torch.randn(2, 3, 32, 32), (32, 32), (target.name,))
    term = losses.imitate_features if band == "low" else lambda p, t: losses.imitate_high(p, t, deviation=0.5)
    term(projected[target.name], wanted).backward()
    reached = {name for name, p in distiller.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("student.encoder.levels.0") for name in reached)
    assert any(name.startswith("projections") for name in reached)
    assert not any(name.startswith(("student.decoder", "student.head", "student.encoder.levels.4")) for name in reached)
    assert wanted.grad is None


@pytest.mark.parametrize("term", [losses.segment, losses.cross_entropy, losses.dice, losses.boundary, losses.structure])
def test_task_terms_reach_every_parameter_of_the_student(term):
    student = create("unet", width=2)
    term(student(torch.randn(2, 3, 32, 32)), disc().expand(2, -1, -1)).backward()
    assert all(p.grad is not None for p in student.parameters())
    weights = [p for name, p in student.named_parameters() if name.endswith("weight")]
    assert all(p.grad.abs().sum() > 0 for p in weights)


def test_an_image_of_which_nothing_is_known_has_no_say():
    logits = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    mask = torch.cat([disc(), torch.full_like(disc(), losses.IGNORED)])
    for term in (losses.segment, losses.boundary, losses.structure):
        assert term(logits, mask).item() == pytest.approx(term(logits[:1], mask[:1]).item(), abs=1e-6)


def test_plain_mse_is_one_for_a_student_that_says_nothing():
    target = 0.3 * torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    deviation = float(target.square().mean().sqrt())
    assert losses.imitate_mse(torch.zeros_like(target), target, deviation=deviation).item() == pytest.approx(
        1, abs=1e-5
    )
    assert losses.imitate_mse(target / deviation, target, deviation=deviation).item() == pytest.approx(0, abs=1e-6)


def test_both_bands_at_once_are_judged_as_the_low_one_is():
    student, target = torch.randn(2, 2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    both, low = (loss_function(name) for name in ("imitate_features", "imitate_low"))
    assert torch.equal(both(student, target, deviation=3.0), low(student, target))


def test_a_soft_mask_counts_where_the_teacher_is_better_than_the_student():
    mask = torch.tensor([[[1, 1, 0]]])
    soft = torch.tensor([[[2.0, -2.0, -1.0]]])  # right, wrong, right
    logits = torch.zeros(1, 1, 1, 3, requires_grad=True)
    value = losses.imitate_mask(logits, mask, soft)

    def divergence(p: float) -> float:
        return p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)

    right = divergence(1 / (1 + math.exp(-2))) + divergence(1 / (1 + math.exp(1)))
    assert value.item() == pytest.approx(right / 3, abs=1e-6)
    value.backward()
    assert (logits.grad[0, 0, 0] != 0).tolist() == [True, False, True]


def test_without_a_mask_the_teacher_counts_by_its_confidence():
    mask = torch.full((1, 1, 2), losses.IGNORED)
    soft = torch.tensor([[[0.0, 3.0]]])
    logits = torch.tensor([[[[1.0, 1.0]]]])
    p, q = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-1))
    divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert losses.imitate_mask(logits, mask, soft).item() == pytest.approx((2 * p - 1) * divergence / 2, abs=1e-6)
    assert losses.imitate_mask(soft[:, None], mask, soft).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", sorted(FEATURE_LOSSES))
def test_every_feature_term_reaches_the_encoder_is_not_constant_and_leaves_the_target_alone(name, stride):
    term = loss_function(name)
    student = create("unet", width=2)
    random = torch.Generator().manual_seed(1)
    target = Target("t", "m", BAND_OF[name], stride, (4, 4), 5, 0.5)
    distiller = Distiller(student, [target])
    size = (4 * stride, 4 * stride)
    values = []
    for _ in range(2):
        wanted = torch.randn(2, 5, 4, 4, generator=random).requires_grad_()
        _, projected = distiller(torch.randn(2, 3, *size, generator=random), size, (target.name,))
        values.append(term(projected[target.name], wanted, deviation=0.5))
    assert values[0].item() != values[1].item()
    sum(values).backward()
    assert student.encoder.levels[0][0].weight.grad.abs().sum() > 0
    assert wanted.grad is None


@pytest.mark.parametrize("name", sorted(MASK_LOSSES))
def test_a_soft_mask_reaches_every_part_of_the_student_is_not_constant_and_is_left_alone(name):
    student = create("unet", width=2)
    random = torch.Generator().manual_seed(1)
    values = []
    for known in (True, False):
        soft = torch.randn(2, 32, 32, generator=random).requires_grad_()
        mask = disc().expand(2, -1, -1) if known else torch.full((2, 32, 32), losses.IGNORED)
        values.append(loss_function(name)(student(torch.randn(2, 3, 32, 32, generator=random)), mask, soft))
        values[-1].backward()
        assert soft.grad is None
        for part in (student.encoder, student.decoder, student.head):
            assert all(p.grad.abs().sum() > 0 for name, p in part.named_parameters() if name.endswith("weight"))
        student.zero_grad()
    assert values[0].item() != values[1].item()


@pytest.mark.parametrize("name", sorted(MASK_LOSSES))
def test_a_term_on_soft_masks_takes_the_temperature_of_the_recipe(name):
    random = torch.Generator().manual_seed(2)
    logits, soft = torch.randn(2, 1, 8, 8, generator=random), torch.randn(2, 8, 8, generator=random)
    mask = torch.full((2, 8, 8), losses.IGNORED)
    plain, warm = (loss_function(name)(logits, mask, soft, temperature=value) for value in (1.0, 3.0))
    assert torch.equal(plain, loss_function(name)(logits, mask, soft))
    assert warm.item() != plain.item()
    span = Span("stage", StageRecipe(epochs=1, losses={name: 1.0}), 0, 1, per_epoch=1)
    target = Target("t", "mask", "mask", 1, (8, 8), 1, 1.0)
    batch = {"mask": mask, target.name: soft}
    for temperature, expected in ((1.0, plain), (3.0, warm)):
        given = {"logits": (logits,), "projected": {}, "batch": batch, "temperature": temperature}
        assert torch.equal(compute_losses(span, (target,), **given)[name], expected)


def test_the_square_error_of_masks_is_that_of_probabilities_over_all_pixels():
    mask = torch.tensor([[[0, losses.IGNORED]]], dtype=torch.uint8)
    logits, soft = torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[2.0, 2.0]]])
    expected = (1 / (1 + math.exp(-2)) - 0.5) ** 2 / 2
    assert losses.imitate_mask_mse(logits, mask, soft).item() == pytest.approx(expected, abs=1e-6)


def test_norms_of_weights_are_summed_unsquared_and_pull_at_every_tensor_equally():
    weights = [torch.tensor([3.0, 4.0]).requires_grad_(), torch.full((2, 2), 0.01).requires_grad_()]
    zero = torch.zeros(3, requires_grad=True)
    value = losses.weight_norm([*weights, zero])
    value.backward()
    assert value.item() == pytest.approx(5.02)
    assert [weight.grad.norm().item() for weight in weights] == pytest.approx([1, 1])
    assert not zero.grad.any()


def test_the_norms_of_a_stage_are_those_of_the_student():
    student = create("unet", width=2)
    span = Span("stage", StageRecipe(epochs=1, losses={"weight_norm": 0.3}), 0, 1, per_epoch=1)
    terms = compute_losses(span, (), logits=(), projected={}, batch={}, parameters=student.parameters())
    assert terms["weight_norm"].item() == pytest.approx(sum(p.norm().item() for p in student.parameters()), rel=1e-5)
    terms["weight_norm"].backward()
    assert student.encoder.levels[0][0].weight.grad.norm().item() == pytest.approx(1)


def test_terms_on_logits_are_averaged_over_the_supervised_heads():
    stage = StageRecipe(epochs=1, losses={"segment": 1.0, "imitate_mask": 1.0})
    span = Span("stage", stage, 0, 1, per_epoch=1)
    random = torch.Generator().manual_seed(0)
    heads = tuple(torch.randn(1, 1, 32, 32, generator=random) for _ in range(2))
    soft = torch.randn(1, 32, 32, generator=random)
    target = Target("t", "mask", "mask", 1, (32, 32), 1, 1.0)
    terms = compute_losses(span, (target,), logits=heads, projected={}, batch={"mask": disc(), target.name: soft})
    assert terms["segment"].item() == pytest.approx(sum(losses.segment(h, disc()).item() for h in heads) / 2)
    expected = sum(losses.imitate_mask(h, disc(), soft).item() for h in heads) / 2
    assert terms["imitate_mask"].item() == pytest.approx(expected)
