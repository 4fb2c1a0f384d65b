"""The image score: the Dice to expect of a mask by its probability, and how well it finds masks that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.metrics.overlap import Flags

FAILED = 0.5  # a mask with a lower Dice has failed


def expected_dice(mask: Flags, probability: NDArray) -> float:
    """The image score for one class, in [0, 1]; it assumes a calibrated probability.

    2 sum(p over the mask) / (|mask| + sum(p)), the soft Dice confidence (Borges, Pacheco & Silva, 2024, "Soft Dice
    Confidence: A Near-Optimal Confidence Estimator for Selective Prediction in Semantic Segmentation",
    arXiv:2402.10665), which is close to the expected Dice if pixels are independent. For an empty mask it would always
    be 0, although its Dice is 1 if there is no object. Its score is therefore the probability of that, 1 - max(p), as
    if all pixels belonged to one object.

    Args:
        mask: bool (H, W), the predicted mask.
        probability: (H, W) in [0, 1], of the class.
    """
    area = int(np.count_nonzero(mask))
    if not area:
        return float(np.clip(1 - probability.max(), 0, 1))
    both, whole = probability[mask].sum(dtype=np.float64), probability.sum(dtype=np.float64)
    return float(np.clip(2 * both / (area + whole), 0, 1))


def failure_auroc(scores: Sequence[float], dice: Sequence[float]) -> dict[str, Any]:
    """The AUROC with which a score finds the images whose mask failed: {"images", "failed", "auroc", "reason"}.

    Args:
        scores: the image score of each image.
        dice: the Dice of each image; below `FAILED` its mask has failed.

    Returns:
        auroc: the share of pairs of a failed and another image in which the failed one has the lower score, ties
        counting half; None if there is no such pair, as `reason` then says (else `reason` is None).
    """
    failed = np.asarray(dice) < FAILED
    count, failures = len(failed), int(failed.sum())
    found: dict[str, Any] = {"images": count, "failed": failures, "auroc": None, "reason": None}
    if failures in (0, count):
        found["reason"] = f"{'every' if failures else 'no'} image has a Dice below {FAILED}"
        return found
    values = np.asarray(scores, dtype=np.float64)
    others = np.sort(values[~failed])
    not_above, below = (np.searchsorted(others, values[failed], side=side) for side in ("right", "left"))
    found["auroc"] = float(1 - (not_above + below).mean() / (2 * len(others)))
    return found
