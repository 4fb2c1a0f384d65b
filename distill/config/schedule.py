"""The schedule of training: stages laid end to end in steps, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from distill.config.registry import BAND_OF
from distill.config.schema import OptimiserRecipe, Recipe, StageRecipe


@dataclass(frozen=True)
class Span:
    """A stage with the global steps [start, stop) that it covers."""

    name: str
    stage: StageRecipe
    start: int
    stop: int
    per_epoch: int  # steps in a pass over the labelled images, in batches of these alone
    unlabelled: int = 0  # images without a mask in every batch
    origin: tuple[int, int] = (0, 0)  # a step, and the epoch of the labelled images that begins there
    schedule: tuple[int, int] = (0, 0)  # steps [start, stop) over which the learning rate rises and falls

    @property
    def bands(self) -> set[str]:
        """The bands that the terms imitate: low, high, all or mask."""
        return {BAND_OF[name] for name in self.stage.terms if name in BAND_OF}


def spans_of(recipe: Recipe, *, labelled: int, unlabelled: int = 0) -> tuple[Span, ...]:
    """The stages laid end to end, in steps, for so many labelled and unlabelled training images.

    An epoch has the same number of steps with and without unlabelled images, so that arms with and without them are
    equally long and are scored equally often.
    """
    spans: list[Span] = []
    batch = recipe.optimiser.batch_size
    per_epoch = steps_of_epoch(labelled, batch)
    origin, steps = (0, 0), 0  # steps: of an epoch of labelled images in the batches of the stage before
    for name, stage in recipe.stages.items():
        start = spans[-1].stop if spans else 0
        share = min(unlabelled_of(recipe, stage), unlabelled)
        length = stage.epochs * per_epoch if stage.steps is None else stage.steps
        own = steps_of_epoch(labelled, min(batch - share, labelled))
        if length and steps not in (0, own):  # epochs of another length: continue after the last one begun
            origin = (start, origin[1] + math.ceil((start - origin[0]) / steps))
        steps = own if length else steps
        spans.append(Span(name, stage, start, start + length, per_epoch, share, origin))
    restarts = [span.start for span in spans if span.stage.restart and span.start < span.stop]
    return tuple(replace(span, schedule=schedule_of(span, restarts, total=spans[-1].stop)) for span in spans)


def schedule_of(span: Span, restarts: Sequence[int], *, total: int) -> tuple[int, int]:
    """The steps [start, stop) of a stage's schedule: from the last restart before it to the next one or the end."""
    start = max((step for step in restarts if step <= span.start), default=0)
    return start, min((step for step in restarts if step > start), default=total)


def unlabelled_of(recipe: Recipe, stage: StageRecipe) -> int:
    """Unlabelled images in a batch, if there are any: some in stages that learn from them, none in others."""
    batch, share = recipe.optimiser.batch_size, recipe.data.unlabelled_share
    return min(max(1, round(share * batch)), batch - 1) if share and stage.takes_unlabelled else 0


def steps_of_epoch(images: int, batch: int) -> int:
    """Steps in a pass over the labelled images: full batches only, or one batch of all if they do not fill one."""
    return max(1, images // batch)


def steps_of_score(span: Span, recipe: Recipe) -> int:
    """Steps of a stage from one score on the validation images to the next."""
    return max(1, round(recipe.evaluate.every * span.per_epoch))


def learning_rate_at(step: int, total: int, optimiser: OptimiserRecipe) -> float:
    """Learning rate of a step of a schedule: linear warm-up from zero, then cosine to 0, (1 - t)^0.9, or constant."""
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
