"""The latency of a network for one frame: percentiles, for the model card."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from distill.runtime.hardware import machine
from distill.runtime.timing import Timing

ROUNDS = 100
SECONDS = 2.0  # in which runs are started, at least one
WARM = 3


def latency(run: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> dict[str, Any]:
    """Latency as the model card gives it: milliseconds for one frame on one thread, and the CPU.

    Args:
        run: uint8 (1, H, W, 3) -> probability (1, K, H, W), on one thread.
        image: uint8 (H, W, 3), as decoded.
    """
    for _ in range(WARM):
        run(image[None])
    taken: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(taken) < ROUNDS and (not taken or time.perf_counter() < until):
        began = time.perf_counter()
        run(image[None])
        taken.append(time.perf_counter() - began)
    timing = Timing(tuple(taken))
    return {
        **{f"p{share}": round(1000 * timing.percentile(share / 100), 2) for share in (50, 95, 99)},
        "runs": len(timing.seconds),
        "size": list(image.shape[:2]),
        "threads": 1,
        "cpu": machine(1)["cpu"],
    }
