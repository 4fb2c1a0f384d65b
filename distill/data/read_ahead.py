"""Reading the pixels of samples in advance on threads; results are the same as without."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from distill.data.sample import Sample
from distill.runtime.threads import own_cores, small_workers

THREADS = 4
AHEAD = 4 * THREADS  # samples
AHEAD_PIXELS = 64_000_000  # of all images that wait: 256 MB with their masks

Waiting = tuple[Sample, Future[np.ndarray] | None, Future[np.ndarray]]


def read_ahead(samples: Iterable[Sample], *, images: bool = True) -> Iterator[Sample]:
    """The samples in order, with readers that return what threads have read; errors are raised in their turn.

    Args:
        samples: samples whose pixels are each needed once, soon after one another.
        images: whether to read images too, not only masks.
    """
    pool = small_workers(min(THREADS, own_cores()))
    waiting: deque[Waiting] = deque()
    pixels = 0
    try:
        for sample in samples:
            waiting.append((sample, pool.submit(sample.read_image) if images else None, pool.submit(sample.read_mask)))
            pixels += sample.size[0] * sample.size[1]
            while len(waiting) > AHEAD or pixels > AHEAD_PIXELS:
                pixels -= waiting[0][0].size[0] * waiting[0][0].size[1]
                yield _with_pixels(*waiting.popleft())
        while waiting:
            yield _with_pixels(*waiting.popleft())
    except BaseException:  # the others are no longer needed
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown(wait=False)  # yielded samples may be read later


def _with_pixels(sample: Sample, image: Future[np.ndarray] | None, mask: Future[np.ndarray]) -> Sample:
    """A sample whose readers return what was read: an image (H, W, 3) and a mask (H, W), uint8."""
    return replace(sample, read_image=image.result if image else sample.read_image, read_mask=mask.result)
