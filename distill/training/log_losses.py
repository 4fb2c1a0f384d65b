"""Means of the loss terms since the last log, and the variance of projections, with a warning if they collapse."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor

from distill.config.schedule import Span
from distill.distillation.feature_variance import FeatureVariance
from distill.training.state import Counters, TrainingState

LOG_EVERY_STEPS = 25

logger = logging.getLogger("bandpass")


@dataclass
class RunningMeans:
    """Means of loss terms over the steps since the last call of `take`."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    @classmethod
    def of(cls, counters: Counters) -> RunningMeans:
        """The means saved in a checkpoint, so that the log does not depend on interruptions."""
        return cls({name: torch.tensor(value) for name, value in counters.sums.items()}, counters.summed)

    def keep(self, counters: Counters) -> None:
        """Puts the sums where a checkpoint saves them; exact, because float64 holds every float32."""
        counters.sums = {name: float(value) for name, value in self.sums.items()}
        counters.summed = self.steps

    def add(self, terms: dict[str, Tensor]) -> None:
        """Adds the terms of a step, scalars, without waiting for the device."""
        self.steps += 1
        for name, term in terms.items():
            self.sums[name] = term.detach().float() + self.sums.get(name, 0)

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """Returns the means over steps and processes (so all agree on whether the loss is finite) and starts anew."""
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


def log_collapsed(state: TrainingState, span: Span, variances: dict[str, FeatureVariance]) -> None:
    """Records the projections that had collapsed at the end of a stage, and warns about them."""
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
