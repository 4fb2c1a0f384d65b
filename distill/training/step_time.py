"""The time of a training step, from a short probe of the student on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from distill.distillation import losses
from distill.runs.build import create_student
from distill.runs.run import Run
from distill.runtime.hardware import precision_here
from distill.runtime.memory_format import memory_format_of
from distill.runtime.timing import settle

STEPS = 3  # training steps that are timed


@dataclass(frozen=True)
class StepTime:
    """A student's parameters, and the seconds of one of its training steps."""

    parameters: int
    seconds: float


def images_of_step(run: Run) -> int:
    """The number of images in a run's largest step: a batch, or all images if there are fewer."""
    size, labelled = run.recipe.optimiser.batch_size, len(run.splits.train)
    return max(min(size - span.unlabelled, labelled) + span.unlabelled for span in run.spans)


def time_step(run: Run) -> StepTime:
    """The fastest of a few steps of a run's student, forward and backward.

    Loading and imitation, which cost little in comparison, are left out.
    """
    recipe, accelerator = run.recipe, run.accelerator
    student = create_student(recipe).to(accelerator.device).train()
    layout = memory_format_of(student, device=accelerator.device, precision=precision_here(recipe.precision))
    student = student.to(memory_format=layout)
    parts = recipe.optimiser.accumulate
    batch = max(2, images_of_step(run) // (accelerator.num_processes * parts))
    size = (recipe.image_size, recipe.image_size)
    images = torch.zeros(batch, 3, *size, device=accelerator.device)
    mask = torch.zeros(batch, *size, dtype=torch.uint8, device=accelerator.device)
    spent = []
    for _ in range(STEPS):
        settle()
        began = time.monotonic()
        with accelerator.autocast():
            logits = student(images)
        losses.segment(logits, mask).backward()
        settle()
        spent.append(time.monotonic() - began)
    return StepTime(sum(parameter.numel() for parameter in student.parameters()), parts * min(spent))
