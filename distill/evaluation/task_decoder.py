"""The task teacher's decoder seen from outside: what it is shown of an image, how it answers, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import Cache
from distill.data.sample import Sample
from distill.distillation.dataset import read_target
from distill.distillation.targets import Target


@dataclass(frozen=True)
class Shown:
    """What the decoder is shown of an image: its teacher's cached maps, each (1, K, rows, columns), and its size."""

    maps: tuple[Tensor, ...]
    size: tuple[int, int]  # height and width in pixels


def show(caches: Mapping[str, Cache], inputs: tuple[Target, ...], sample: Sample) -> Shown:
    """What a cache holds of a sample's plain view.

    Raises:
        KeyError: it holds nothing of this image.
    """
    return Shown(
        tuple(read_target(caches[target.teacher], target, sample.key, "identity")[None] for target in inputs),
        sample.size,
    )


def predict(decoder: Any, shown: Shown) -> np.ndarray:  # noqa: ANN401
    """Probability float32 (K, H, W) of one image, computed where the decoder lies."""
    device = next(decoder.parameters()).device
    with torch.inference_mode():
        logits = decoder(tuple(maps.to(device) for maps in shown.maps), shown.size)[0]
        return (logits.sigmoid() if len(logits) == 1 else logits.softmax(dim=0)).float().cpu().numpy()


def cost(decoder: Any) -> dict[str, int]:  # noqa: ANN401
    """Parameters of the decoder alone; its teacher's are not counted."""
    return {"parameters": sum(parameter.numel() for parameter in decoder.parameters())}
