"""What a training step minimises: every term of a stage, found in the registry of losses."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor

from distill.distiller import Target
from distill.schedule import Span
from distill.vocabulary import BAND_OF, LOSSES, MASK_LOSSES, TASK_LOSSES


def terms_of(
    span: Span,
    targets: tuple[Target, ...],
    *,
    logits: tuple[Tensor, ...],
    projected: dict[str, Tensor],
    batch: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Every term of a stage, unweighted: on logits the mean over heads, on features the mean over targets."""
    terms: dict[str, Tensor] = {}
    for name in span.terms:
        term = loss_function(name)
        if name in TASK_LOSSES:
            terms[name] = torch.stack([term(head, batch["mask"]) for head in logits]).mean()
            continue
        asked = [target for target in targets if target.band == BAND_OF[name]]
        if name in MASK_LOSSES:
            parts = [term(head, batch["mask"], batch[t.name]) for t in asked for head in logits]
        else:
            parts = [term(projected[t.name], batch[t.name], deviation=t.deviation) for t in asked]
        terms[name] = torch.stack(parts).mean()
    return terms


def loss_function(name: str) -> Callable[..., Tensor]:
    """The function of a term, by the registry `distill.recipe.LOSSES`."""
    module, _, attribute = LOSSES[name].partition(":")
    return getattr(import_module(module), attribute)
