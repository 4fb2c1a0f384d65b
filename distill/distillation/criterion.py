"""The loss terms of a stage, each found in the registry of losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module

import torch
from torch import Tensor

from distill.config.registry import AVERAGE_LOSSES, BAND_OF, LOSSES, MASK_LOSSES, TASK_LOSSES, WEIGHT_LOSSES
from distill.config.schedule import Span
from distill.data.teacher_dropout import teacher_mask_key
from distill.distillation.mean_teacher import AVERAGE, unlabelled_in
from distill.distillation.targets import Target
from distill.distillation.whole_batch import divided_by, divisors_of


def compute_losses(
    span: Span,
    targets: tuple[Target, ...],
    *,
    logits: tuple[Tensor, ...],
    projected: dict[str, Tensor],
    batch: Mapping[str, Tensor],
    parameters: Iterable[Tensor] = (),
    divisors: Mapping[str, Sequence[Tensor]] | None = None,
    class_weights: Sequence[float] = (),
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """Unweighted loss terms of a stage by name, each a scalar tensor.

    A term on logits is the mean over the supervised heads, one on features the mean over its targets.

    Args:
        span: the stage.
        targets: those that are in the batch.
        logits: of every head, (N, K, H, W).
        projected: the student's projected features by the name of their target, (N, C, h, w).
        batch: `mask` (N, H, W), the targets by name, teacher masks where teachers are dropped, and what the student's
            average says where that teaches.
        parameters: of the student.
        divisors: scalars, of the terms on masks, see `divisors_of_parts`, where this is a part of a batch.
        class_weights: of the terms on masks, one a class; none: all weigh the same.
        temperature: of the terms on soft masks.
    """
    weighted = weights_for(class_weights, batch)
    terms: dict[str, Tensor] = {}
    for name in span.terms:
        term = loss_function(name)
        if name in TASK_LOSSES:
            heads = []
            for head in logits:
                with divided_by(divisors[name] if divisors else None):
                    heads.append(term(head, batch["mask"], **weighted))
            terms[name] = torch.stack(heads).mean()
            continue
        if name in WEIGHT_LOSSES:
            terms[name] = term(parameters)
            continue
        if name in AVERAGE_LOSSES:
            unlabelled = unlabelled_in(batch["mask"])
            heads = [mean_over_all(term, head, batch["mask"], batch[AVERAGE], chosen=unlabelled) for head in logits]
            terms[name] = torch.stack(heads).mean()
            continue
        parts = []
        for target in (target for target in targets if target.band == BAND_OF[name]):
            wanted, teacher_mask = batch[target.name], batch.get(teacher_mask_key(target.teacher))
            weighted_teacher = partial(weighted_teacher_loss, target, teacher_mask=teacher_mask)
            if name in MASK_LOSSES:
                warm = partial(term, temperature=temperature)
                parts += [weighted_teacher(warm, head, batch["mask"], wanted) for head in logits]
            else:
                scaled = partial(term, deviation=target.deviation)
                parts.append(weighted_teacher(scaled, projected[target.name], wanted))
        terms[name] = torch.stack(parts).mean()
    return terms


def weights_for(class_weights: Sequence[float], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The argument (K,) of the terms on masks where classes have weights, on the batch's device; else none."""
    return {"class_weights": torch.tensor(class_weights, device=batch["mask"].device)} if class_weights else {}


def divisors_of_parts(
    span: Span, masks: Sequence[Tensor], *, classes: int, class_weights: Sequence[float] = ()
) -> dict[str, list[Tensor]]:
    """Term on masks -> its divisors, scalars, over all parts of a batch, whose masks (N, H, W) are given."""
    weighted = weights_for(class_weights, {"mask": masks[0]})

    def asked(name: str, mask: Tensor) -> Tensor:
        logits = torch.zeros(len(mask), classes, *mask.shape[1:], device=mask.device)
        return loss_function(name)(logits, mask, **weighted)

    return {name: divisors_of(partial(asked, name), masks) for name in span.terms if name in TASK_LOSSES}


def weighted_teacher_loss(
    target: Target, term: Callable[..., Tensor], student: Tensor, *truth: Tensor, teacher_mask: Tensor | None
) -> Tensor:
    """A term for one target, over the images that have the teacher, times a weight.

    Args:
        target: its teacher's weight is the factor.
        term: a mean over the images that it is given.
        student: logits or projected features, (N, ...).
        truth: the tensors that the term compares them with, each (N, ...).
        teacher_mask: which images have the teacher, bool (N,); where not given, all.
    """
    if teacher_mask is None:
        return target.weight * term(student, *truth)
    return target.weight * mean_over_all(term, student, *truth, chosen=teacher_mask)


def mean_over_all(term: Callable[..., Tensor], student: Tensor, *truth: Tensor, chosen: Tensor) -> Tensor:
    """A term's sum over the chosen images (N,) of a batch, as a mean over all; 0 where none is chosen."""
    if not bool(chosen.any()):
        return 0 * student.sum()
    return chosen.float().mean() * term(student[chosen], *(tensor[chosen] for tensor in truth))


def loss_function(name: str) -> Callable[..., Tensor]:
    """The function of a term, which returns a scalar, by the registry `distill.config.registry.LOSSES`."""
    module, _, attribute = LOSSES[name].partition(":")
    return getattr(import_module(module), attribute)
