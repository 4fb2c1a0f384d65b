"""The mean of every loss term since the last log, and how much projections vary: measured, logged, and warned of."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor

from distill.config.registry import BAND_OF
from distill.config.schedule import Span
from distill.distillation.feature_variance import FeatureVariance, feature_variance
from distill.distillation.targets import Target
from distill.training.state import TrainingState

LOG_EVERY_STEPS = 25

logger = logging.getLogger("bandpass")


@dataclass
class RunningMeans:
    """Means of loss terms over the steps since the last call of `take`."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        """Adds the terms of a step; nothing waits for the device."""
        self.steps += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach().float()

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over steps and processes, which so agree on whether the loss is finite; then begins anew."""
        means = torch.stack(list(self.sums.values())) / self.steps
        if accelerator.num_processes > 1:
            means = accelerator.reduce(means, reduction="mean")
        named = dict(zip(self.sums, means.tolist(), strict=True))
        self.sums, self.steps = {}, 0
        return named


def log_losses(state: TrainingState, span: Span, means: dict[str, float], variances: dict[str, FeatureVariance]) -> str:
    """Logs mean terms, and the variance of projections; returns a note for the progress line.

    Raises:
        ValueError: the loss is no longer finite.
    """
    step = state.counters.step
    if not math.isfinite(means["loss"]):
        raise ValueError(
            f"the loss became {means['loss']} between steps {max(0, step - LOG_EVERY_STEPS)} and {step} of stage "
            f"{span.name!r}; lower optimiser.learning_rate, or use precision=fp32"
        )
    rate = max(group["lr"] for group in state.optimiser.param_groups)
    varying = {"spread": {name: asdict(figures) for name, figures in variances.items()}} if variances else {}
    state.log.add(step=step, stage=span.name, learning_rate=rate, **means, **varying)
    state.run.accelerator.log({f"{span.name}/{name}": value for name, value in means.items()}, step=step)
    return f"{span.name} loss {means['loss']:.3f}"


def variances_of(
    state: TrainingState, span: Span, projected: dict[str, Tensor], batch: dict[str, Tensor]
) -> dict[str, FeatureVariance]:
    """Target -> variance and effective rank of it and its projection in a batch."""
    targets = [target for target in state.dataset.targets if target.name in projected]
    return {t.name: variance_of(state, span, t, projected[t.name], batch[t.name]) for t in targets}


def variance_of(state: TrainingState, span: Span, target: Target, projected: Tensor, wanted: Tensor) -> FeatureVariance:
    """The same of one target, in the units of the terms that compare it with its projection."""
    if target.band == "high":
        wanted = wanted / target.deviation
    scaled = any(BAND_OF.get(name) == target.band for name in span.terms)
    projection = state.run.accelerator.unwrap_model(state.model).projections[target.name]
    return feature_variance(projected, wanted, scaled=scaled, channels=projection.in_channels)


def log_collapsed(state: TrainingState, span: Span, variances: dict[str, FeatureVariance]) -> None:
    """Records and warns of the projections that had collapsed when a stage ended."""
    for name, figures in variances.items():
        if figures.collapsed:
            state.counters.collapsed.append(f"{span.name}: {name}")
            logger.warning(
                "the projection of %s has collapsed (variance %.3g of the target's %.3g, effective rank %.1f of %.1f): "
                "it is nearly constant over cells, so stage %r transfers nothing there",
                name,
                figures.variance,
                figures.target_variance,
                figures.rank,
                figures.target_rank,
                span.name,
            )
