"""The loss terms of a stage, each found in the registry of losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pkgutil import resolve_name

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
        targets: the targets in the batch.
        logits: of every head, (N, K, H, W).
        projected: the student's projected features by the name of their target, (N, C, h, w).
        batch: `mask` (N, H, W), the targets by name, teacher masks if teachers are dropped, and the logits of the
            student's average if it teaches.
        parameters: of the student.
        divisors: scalars for the terms on masks (`divisors_of_parts`), if this is a part of a batch.
        class_weights: for the terms on masks, one per class; empty: all classes weigh the same.
        temperature: for the terms on soft masks.
    """
    weighted = weights_for(class_weights, batch)
    terms: dict[str, Tensor] = {}
    for name in span.stage.terms:
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
    """The keyword argument for class weights (K,) on the batch's device; empty if classes have no weights."""
    return {"class_weights": torch.tensor(class_weights, device=batch["mask"].device)} if class_weights else {}


def divisors_of_parts(
    span: Span, masks: Sequence[Tensor], *, classes: int, class_weights: Sequence[float] = ()
) -> dict[str, list[Tensor]]:
    """The scalar divisors of each term on masks, over all parts of a batch with these masks (N, H, W)."""
    weighted = weights_for(class_weights, {"mask": masks[0]})

    def asked(name: str, mask: Tensor) -> Tensor:
        logits = torch.zeros(len(mask), classes, *mask.shape[1:], device=mask.device)
        return loss_function(name)(logits, mask, **weighted)

    return {name: divisors_of(partial(asked, name), masks) for name in span.stage.terms if name in TASK_LOSSES}


def weighted_teacher_loss(
    target: Target, term: Callable[..., Tensor], student: Tensor, *truth: Tensor, teacher_mask: Tensor | None
) -> Tensor:
    """A term for one target over the images that have the teacher, times the teacher's weight.

    Args:
        target: the target.
        term: a mean over the images that it is given.
        student: logits or projected features, (N, ...).
        truth: the tensors with which the term compares them, each (N, ...).
        teacher_mask: bool (N,), the images that have the teacher; by default all.
    """
    if teacher_mask is None:
        return target.weight * term(student, *truth)
    return target.weight * mean_over_all(term, student, *truth, chosen=teacher_mask)


def mean_over_all(term: Callable[..., Tensor], student: Tensor, *truth: Tensor, chosen: Tensor) -> Tensor:
    """A term's sum over the chosen images (N,) of a batch, divided by the number of all; 0 if none is chosen."""
    if not bool(chosen.any()):
        return 0 * student.sum()
    return chosen.float().mean() * term(student[chosen], *(tensor[chosen] for tensor in truth))


def loss_function(name: str) -> Callable[..., Tensor]:
    """The function of a term (it returns a scalar) from the registry `distill.config.registry.LOSSES`."""
    return resolve_name(LOSSES[name])
