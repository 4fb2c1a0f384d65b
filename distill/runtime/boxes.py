"""The box around the true pixels of a mask."""

from __future__ import annotations

import numpy as np


def box_around(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """The rows and columns of the true pixels of a mask (H, W), which has some, with a margin inside the image."""
    spans = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(max(0, int(span[0]) - margin), int(span[-1]) + 1 + margin) for span in spans)
    return rows, columns
