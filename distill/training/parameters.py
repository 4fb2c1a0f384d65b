"""Parameters in training: optimiser groups, frozen parts, the moving average, parameters without gradient."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from distill.config.registry import AVERAGE_LOSSES, MASK_LOSSES, PARTS, TASK_LOSSES, WEIGHT_LOSSES
from distill.config.schedule import Span
from distill.config.schema import OptimiserRecipe
from distill.distillation.distiller import Distiller
from distill.distillation.targets import Target


def param_groups(distiller: Distiller, *, decay_norms: bool = True) -> list[dict[str, Any]]:
    """The optimiser's parameter groups, one per part of the student, so that each can have its own learning rate.

    Args:
        distiller: student and projections; the latter are in the part `rest`.
        decay_norms: whether weight decay also acts on tensors of at most one dimension (biases and norms' weights).
    """
    parts = {name: list(getattr(distiller.student, name).parameters()) for name in PARTS}
    known = {id(parameter) for parameters in parts.values() for parameter in parameters}
    parts["rest"] = [parameter for parameter in distiller.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = []
    for name, parameters in parts.items():
        if decay_norms:
            groups.append({"part": name, "params": parameters})
        else:
            groups.append({"part": name, "params": [p for p in parameters if p.ndim > 1]})
            groups.append({"part": name, "params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def create_optimiser(distiller: Distiller, optimiser: OptimiserRecipe) -> torch.optim.AdamW:
    """AdamW over the groups of `param_groups`; fused on CPUs, elsewhere as torch chooses."""
    groups = param_groups(distiller, decay_norms=optimiser.decay_norms)
    fused = True if groups[0]["params"][0].device.type == "cpu" else None  # not False, which rules out `foreach` too
    return torch.optim.AdamW(groups, lr=optimiser.learning_rate, weight_decay=optimiser.weight_decay, fused=fused)


def frozen_by_author(student: nn.Module) -> frozenset[str]:
    """Names of the parameters that a student's own code has frozen; they stay frozen in every stage."""
    return frozenset(name for name, parameter in student.named_parameters() if not parameter.requires_grad)


def set_frozen(student: nn.Module, parts: Collection[str], *, kept: Collection[str] = ()) -> None:
    """Puts the student into training mode; frozen parts get no gradient and keep their batch-norm statistics.

    Args:
        student: changed in place.
        parts: frozen as a whole; encoder, decoder or head.
        kept: names of parameters that are frozen in any case; a layer with no others keeps its statistics too.
    """
    student.train()
    for name in PARTS:
        part: nn.Module = getattr(student, name)
        part.requires_grad_(name not in parts)
        part.train(name not in parts)
    for name in kept:
        student.get_parameter(name).requires_grad_(False)
    for path, module in student.named_modules() if kept else ():
        own = [f"{path}.{name}".removeprefix(".") for name, _ in module.named_parameters(recurse=False)]
        if own and all(name in kept for name in own):
            module.training = False


def forget_frozen(optimiser: torch.optim.Optimizer) -> None:
    """Removes the optimiser's state of frozen parameters, so that they start afresh when trained again."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if not parameter.requires_grad:
                optimiser.state.pop(parameter, None)


def averaged(student: nn.Module, optimiser: OptimiserRecipe) -> AveragedModel | None:
    """The exponential moving average of weights and batch-norm statistics, with decay `ema` per step; None if it is 0.

    It starts from the weights after the first step. With `ema_warmup`, the decay at step n is at most (1 + n) /
    (10 + n), as in TensorFlow's moving average, so that the first weights fade quickly. Integers are not averaged:
    batch norm's batch counts, which nothing reads, would cost a GPU four kernels per layer.
    """
    decay, warmup = optimiser.ema, optimiser.ema_warmup

    def update(average: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        if average[0].is_floating_point():
            now = min(decay, (1 + int(count)) / (10 + int(count))) if warmup else decay
            get_ema_multi_avg_fn(now)(average, weights, count)

    return AveragedModel(student, multi_avg_fn=update, use_buffers=True) if decay else None


def mixed(network: nn.Module, first: Mapping[str, Tensor], share: float) -> nn.Module:
    """A copy of a network with a share of its first weights and batch-norm statistics (WiSE-FT, arXiv 2109.01903).

    Integers are the network's own.
    """
    copied = copy.deepcopy(network)
    for name, tensor in copied.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(first[name].to(tensor), share)
    return copied


def reaches_all(
    distiller: Distiller,
    span: Span,
    targets: Sequence[Target],
    *,
    inputs: Any,  # noqa: ANN401
    size: tuple[int, int],
    kept: Collection[str] = (),
) -> bool:
    """Whether a stage's loss reaches every parameter that its processes synchronise; tested on a copy.

    Args:
        distiller: student and projections.
        span: the stage.
        targets: of all stages.
        inputs: a batch of what the student reads.
        size: of the logits.
        kept: names of the student's parameters that are frozen in any case.
    """
    if span.stage.freeze:
        return False
    probe = copy.deepcopy(distiller)
    set_frozen(probe.student, (), kept=kept)
    logits, projected = probe(inputs, size, tuple(target.name for target in targets if target.band in span.bands))
    parameters = [parameter for parameter in probe.parameters() if parameter.requires_grad]
    reached = [*projected.values(), *(logits if trains_logits(span) else ())]
    if WEIGHT_LOSSES.keys() & set(span.stage.terms):
        reached += [parameter for parameter in probe.student.parameters() if parameter.requires_grad]
    total = torch.stack([tensor.float().sum() for tensor in reached]).sum()
    return all(gradient is not None for gradient in torch.autograd.grad(total, parameters, allow_unused=True))


def trains_logits(span: Span) -> bool:
    """Whether any loss term of a stage acts on the logits; without one, Dice is uninformative."""
    return bool({*TASK_LOSSES, *MASK_LOSSES, *AVERAGE_LOSSES}.intersection(span.stage.terms))
