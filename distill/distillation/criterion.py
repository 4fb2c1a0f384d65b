"""What a training step minimises: every term of a stage, found in the registry of losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module

import torch
from torch import Tensor

from distill.config.registry import BAND_OF, LOSSES, MASK_LOSSES, TASK_LOSSES
from distill.config.schedule import Span
from distill.data.teacher_dropout import heard_name
from distill.distillation.distiller import Target


def terms_of(
    span: Span,
    targets: tuple[Target, ...],
    *,
    logits: tuple[Tensor, ...],
    projected: dict[str, Tensor],
    batch: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Every term of a stage, unweighted by the stage: on logits the mean over heads, on features that over targets."""
    terms: dict[str, Tensor] = {}
    for name in span.terms:
        term = loss_function(name)
        if name in TASK_LOSSES:
            terms[name] = torch.stack([term(head, batch["mask"]) for head in logits]).mean()
            continue
        asked = [target for target in targets if target.band == BAND_OF[name]]
        if name in MASK_LOSSES:
            parts = [
                said_by(t, term, head, batch["mask"], batch[t.name], batch=batch) for t in asked for head in logits
            ]
        else:
            parts = [
                said_by(t, partial(term, deviation=t.deviation), projected[t.name], batch[t.name], batch=batch)
                for t in asked
            ]
        terms[name] = torch.stack(parts).mean()
    return terms


def said_by(
    target: Target, term: Callable[..., Tensor], student: Tensor, *truth: Tensor, batch: Mapping[str, Tensor]
) -> Tensor:
    """What one teacher has to say in a term: the term's sum over the images that hear it, as a mean over all of them.

    Args:
        target: what is imitated; its teacher's weight is a factor.
        term: a mean over the images that it is given.
        student: what the student says, (N, ...).
        truth: what the term compares it with, each (N, ...).
        batch: for which images hear the teacher; all, where it does not say.
    """
    heard = batch.get(heard_name(target.teacher))
    if heard is None:
        return target.weight * term(student, *truth)
    if not bool(heard.any()):
        return 0 * student.sum()
    share = target.weight * heard.float().mean()
    return share * term(student[heard], *(tensor[heard] for tensor in truth))


def loss_function(name: str) -> Callable[..., Tensor]:
    """The function of a term, by the registry `distill.config.schema.LOSSES`."""
    module, _, attribute = LOSSES[name].partition(":")
    return getattr(import_module(module), attribute)
