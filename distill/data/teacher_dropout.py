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
    """Which teachers a sample has in an epoch.

    Args:
        drop: teacher -> the share of samples that do without it.
        seed: of the recipe.
        epoch: of the labelled or the unlabelled images.
        sample: key of the image.

    Returns:
        A bool tensor () under `teacher_mask_key` of each teacher, at least one of them true: where all would be
        dropped, the one that came nearest to staying stays. Empty where nothing is to be dropped.
    """
    if not any(drop.values()):
        return {}
    drawn = generator_for(seed, epoch, sample, stream=STREAM).random(len(drop))
    shares = np.array(list(drop.values()))
    kept = drawn >= shares
    if not kept.any():
        kept[np.argmax(drawn / shares)] = True
    return {teacher_mask_key(teacher): torch.tensor(bool(one)) for teacher, one in zip(drop, kept, strict=True)}
