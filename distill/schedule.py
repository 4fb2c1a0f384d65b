"""When what happens: stages laid end to end in steps, and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from distill.recipe import OptimiserRecipe, Recipe, StageRecipe


@dataclass(frozen=True)
class Span:
    """A stage with the global steps [start, stop) that it covers."""

    name: str
    stage: StageRecipe
    start: int
    stop: int

    @property
    def terms(self) -> list[str]:
        """The loss terms of positive weight."""
        return [name for name, weight in self.stage.losses.items() if weight > 0]


def spans_of(recipe: Recipe, per_epoch: int) -> tuple[Span, ...]:
    """The stages laid end to end, in steps; `per_epoch` is the number of steps in an epoch."""
    spans: list[Span] = []
    for name, stage in recipe.stages.items():
        start = spans[-1].stop if spans else 0
        spans.append(Span(name, stage, start, start + stage.epochs * per_epoch))
    return tuple(spans)


def learning_rate_at(step: int, total: int, optimiser: OptimiserRecipe) -> float:
    """Learning rate of a global step: linear warm-up from zero, then cosine to zero, (1 - t)^0.9, or constant."""
    warmup = round(optimiser.warmup * total)
    if step < warmup:
        return optimiser.learning_rate * (step + 1) / warmup
    passed = (step - warmup) / max(1, total - warmup)
    factor = {
        "cosine": 0.5 * (1 + math.cos(math.pi * passed)),
        "polynomial": (1 - passed) ** 0.9,
        "constant": 1.0,
    }[optimiser.schedule]
    return optimiser.learning_rate * factor
