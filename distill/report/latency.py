"""How long the published student takes for one image, measured while the page is made."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LONGEST = 1.5  # seconds of measuring
ROUNDS = (5, 60)  # at least, at most


@dataclass(frozen=True)
class Latency:
    """Milliseconds an image at batch 1."""

    median: float
    low: float  # 5th percentile
    high: float  # 95th percentile
    rounds: int
    threads: int
    size: tuple[int, int]  # height and width of the image
    version: str  # of ONNX Runtime


def latency(path: Path, image: np.ndarray, *, threads: int) -> Latency:
    """Times `model.onnx`, from a uint8 image in memory to its probability, after two rounds that do not count.

    Args:
        path: of the file.
        image: uint8 (H, W, 3).
        threads: of ONNX Runtime, on the CPU.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    batch = {"image": np.ascontiguousarray(image[None])}
    for _ in range(2):
        session.run(None, batch)
    spent: list[float] = []
    while len(spent) < ROUNDS[0] or (len(spent) < ROUNDS[1] and sum(spent) < LONGEST):
        began = time.perf_counter()
        session.run(None, batch)
        spent.append(time.perf_counter() - began)
    low, median, high = (1000 * float(part) for part in np.percentile(spent, (5, 50, 95)))
    return Latency(median, low, high, len(spent), threads, (image.shape[0], image.shape[1]), onnxruntime.__version__)
