"""Teacher masks: which teachers an image has where some are dropped at random (as UNIC does, Sariyildiz et al. 2024).

With several teachers a student can please the one that is easy to imitate and pass over the others; where it often has
to do without one, it cannot. The draw hangs on (seed, epoch, sample) alone, as every other one does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from distill.data.augment import generator_for

STREAM = 2  # apart from that of views, crops and colours


def teacher_mask_key(teacher: str) -> str:
    """The batch's entry of a teacher mask: which of its images have the teacher, a bool each."""
    return f"{teacher}/teacher_mask"


def draw_teacher_mask(drop: Mapping[str, float], *, seed: int, epoch: int, sample: str) -> dict[str, Tensor]:
    """The teachers that a sample has in an epoch.

    The shares lie one after the other round a circle of length 1, and a teacher is dropped where one drawn point, or
    that point after a further turn, falls into its share (systematic sampling, Madow 1949). So each teacher is dropped
    with just its share, and as few as can be at once: where the shares sum to at most the number of teachers less 1,
    every sample has at least one; where they sum to more, no rule could keep both the shares and that.

    Args:
        drop: teacher -> the share of samples that do without it, under 1.
        seed: of the recipe.
        epoch: of the labelled or the unlabelled images.
        sample: key of the image.

    Returns:
        A bool tensor () under `teacher_mask_key` of each teacher; empty where nothing is to be dropped.
    """
    if not any(drop.values()):
        return {}
    point = generator_for(seed, epoch, sample, stream=STREAM).random()
    ends = np.cumsum([0.0, *drop.values()])
    turns = np.ceil(ends - point)  # points at `point`, `point` + 1, ... that lie before each end
    dropped = np.diff(turns) > 0
    return {teacher_mask_key(teacher): torch.tensor(not bool(one)) for teacher, one in zip(drop, dropped, strict=True)}
