"""The data of a training, found out once: images, imitated targets, and the point from which it continues."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cache import Cache
from distill.config.schedule import Span
from distill.runs.caches import open_caches
from distill.runs.checks import check
from distill.runs.run import Run
from distill.training.checkpoint import find_checkpoint


@dataclass(frozen=True)
class TrainingPlan:
    """A run that can be trained."""

    run: Run
    caches: dict[str, Cache]  # open; they hold every training image in every view drawn
    spans: tuple[Span, ...]  # the stages in steps
    checkpoint: Path | None  # to continue from

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return self.spans[-1].stop

    @property
    def last(self) -> Span:
        """The last stage with any steps."""
        return [span for span in self.spans if span.start < span.stop][-1]


def plan_training(run: Run) -> TrainingPlan:
    """Checks a run and opens its caches.

    Raises:
        FileNotFoundError: a cache is missing or does not hold every training image in every view drawn.
        ValueError: the student, the caches or the processes do not fit the recipe.
    """
    checkpoint = find_checkpoint(run)
    check(run)
    if checkpoint is not None:
        run.once_listed(checkpoint.stat)
    return TrainingPlan(run, run.once_listed(lambda: open_caches(run)), run.spans, checkpoint)
