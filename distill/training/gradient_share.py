"""The factor on the imitation terms that holds their gradient at a share of the gradient of all other terms.

The adaptive weight of Esser et al. (2021, equation 7) for two groups of terms, over all weights that both groups reach
instead of one layer, measured every few steps and averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from distill.config.registry import BAND_OF
from distill.training.state import TrainingState

FACTOR = "imitate_factor"  # its name in the log
MEASURE_EVERY_STEPS = 10
SMOOTHING = 0.9  # weight of earlier measurements in the mean of logarithms


def balanced(
    state: TrainingState, weighted: dict[str, Tensor], *, measure: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weighted terms with imitation scaled by its factor, and the factor under its name in the log.

    Nothing changes without `imitate.gradient_share`, and in a stage without imitation.

    Args:
        state: holds the ratio of gradients on which the factor rests.
        weighted: term -> its weighted value, a scalar whose graph is kept.
        measure: whether the ratio is measured anew.
    """
    share, accelerator = state.run.recipe.imitate.gradient_share, state.run.accelerator
    if not share or BAND_OF.keys().isdisjoint(weighted):
        return weighted, {}
    if measure:
        ratio = gradient_ratio(weighted, state.student.parameters(), accelerator)
        state.counters.gradient_ratio = smoothed(state.counters.gradient_ratio, ratio)
    factor = imitation_factor(share, state.counters.gradient_ratio)
    scaled = {name: factor * term if name in BAND_OF else term for name, term in weighted.items()}
    return scaled, {FACTOR: torch.tensor(factor, device=accelerator.device)}


def imitation_factor(share: float, ratio: float | None) -> float:
    """The factor on the imitation terms; 1 while no ratio of gradients (task over imitation) is known."""
    return 1.0 if ratio is None else share * ratio


def smoothed(before: float | None, ratio: float | None) -> float | None:
    """The geometric mean of a new ratio and those before it; a missing one changes nothing."""
    if before is None or ratio is None:
        return before if ratio is None else ratio
    return math.exp(SMOOTHING * math.log(before) + (1 - SMOOTHING) * math.log(ratio))


def gradient_ratio(
    weighted: Mapping[str, Tensor], parameters: Iterable[nn.Parameter], accelerator: Accelerator
) -> float | None:
    """The norm of the gradient of all other terms over that of the imitation terms, each averaged over processes.

    None where a batch lacks one of the two groups, or where a norm is zero or not finite.

    Args:
        weighted: term -> its weighted value, a scalar whose graph is kept.
        parameters: those that count, if they are trained and both groups reach them.
        accelerator: of the run.
    """
    groups = [[term for name, term in weighted.items() if (name in BAND_OF) is imitates] for imitates in (False, True)]
    if not all(groups):
        return None
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = [
        torch.autograd.grad(torch.stack(group).sum(), trained, retain_graph=True, allow_unused=True) for group in groups
    ]
    shared = [pair for pair in zip(*gradients, strict=True) if all(gradient is not None for gradient in pair)]
    if not shared:
        return None
    norms = torch.stack([torch.nn.utils.get_total_norm(group) for group in zip(*shared, strict=True)])
    if accelerator.num_processes > 1:
        norms = accelerator.reduce(norms, reduction="mean")
    task, imitation = norms.tolist()
    return task / imitation if 0 < task < math.inf and 0 < imitation < math.inf else None
