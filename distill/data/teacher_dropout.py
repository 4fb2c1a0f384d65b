"""Teacher masks: the teachers of an image when some are dropped at random (as in UNIC, Sariyildiz et al. 2024).

With several teachers, a student can imitate the easy one and neglect the others; it cannot if it often has to do
without one. Like every other draw, this one depends on (seed, epoch, sample) alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from distill.data.augment import generator_for

STREAM = 2  # apart from that of views, crops and colours


def teacher_mask_key(teacher: str) -> str:
    """The key of a teacher mask in a batch: a bool for each image, whether it has the teacher."""
    return f"{teacher}/teacher_mask"


def draw_teacher_mask(drop: Mapping[str, float], *, seed: int, epoch: int, sample: str) -> dict[str, Tensor]:
    """The teachers that a sample has in an epoch.

    The shares lie one after the other around a circle of length 1, and a teacher is dropped if one drawn point, or that
    point after a further turn, falls into its share (systematic sampling, Madow 1949). So each teacher is dropped with
    exactly its share, and as few as possible at once: if the shares sum to at most the number of teachers less 1, every
    sample keeps at least one; if they sum to more, no rule could do both.

    Args:
        drop: teacher -> the share of samples without it, under 1.
        seed: of the recipe.
        epoch: of the labelled or the unlabelled images.
        sample: key of the image.

    Returns:
        A bool tensor () under `teacher_mask_key` of each teacher; empty if no teacher has a share.
    """
    if not any(drop.values()):
        return {}
    point = generator_for(seed, epoch, sample, stream=STREAM).random()
    ends = np.cumsum([0.0, *drop.values()])
    turns = np.ceil(ends - point)  # points at `point`, `point` + 1, ... that lie before each end
    dropped = np.diff(turns) > 0
    return {teacher_mask_key(teacher): torch.tensor(not bool(one)) for teacher, one in zip(drop, dropped, strict=True)}
