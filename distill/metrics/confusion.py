"""Several classes over all pixels of a set: the pooled confusion matrix, IoU of each class, mIoU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.metrics.overlap import IGNORED

POOLED = (
    "pixels of all images together: TP / (TP + FP + FN) of each class, and mIoU, its mean over the classes that occur, "
    "background included; pixels of 255 count for nothing"
)

Pairs = Mapping[tuple[int, int], int]  # (true class, predicted class) -> number of pixels, if any


def class_pairs(predicted: NDArray, truth: NDArray, *, classes: int) -> Pairs:
    """The pixels of one image by true and predicted class.

    Args:
        predicted: class numbers (H, W).
        truth: class numbers (H, W), 255 where ignored.
        classes: number of classes, background included.
    """
    counted = truth != IGNORED
    codes = truth[counted].astype(np.int64) * classes + predicted[counted]
    pixels = np.bincount(codes)
    return {divmod(int(code), classes): int(pixels[code]) for code in np.flatnonzero(pixels)}


def pool(pairs: Pairs, *, classes: int) -> dict[str, Any]:
    """`confusion`: pixels in rows of true and columns of predicted classes; `iou` by class number; `miou`.

    A class that occurs in no mask and no prediction has no IoU.
    """
    matrix = np.array([[pairs.get((true, found), 0) for found in range(classes)] for true in range(classes)])
    both = matrix.diagonal()
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    shares = {str(number): float(both[number] / either[number]) for number in np.flatnonzero(either)}
    return {
        "confusion": matrix.tolist(),
        "iou": shares,
        "miou": float(np.mean(list(shares.values()))) if shares else 1.0,
    }
