"""The task teacher's decoder as a predictor: its input is an image's features in its teacher's cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cache import Cache
from distill.data.sample import Sample
from distill.distillation.dataset import read_target
from distill.distillation.targets import Target


def predict(
    decoder: Any,  # noqa: ANN401
    caches: Mapping[str, Cache],
    inputs: tuple[Target, ...],
    sample: Sample,
) -> np.ndarray:
    """Probability float32 (K, H, W) for a sample at its own size, from the cached maps of its plain view.

    Raises:
        KeyError: the cache does not hold this image.
    """
    device = next(decoder.parameters()).device
    maps = [read_target(caches[target.teacher], target, sample.key, "identity")[None] for target in inputs]
    with torch.inference_mode():
        logits = decoder(tuple(each.to(device) for each in maps), sample.size)[0]
        return (logits.sigmoid() if len(logits) == 1 else logits.softmax(dim=0)).float().cpu().numpy()
