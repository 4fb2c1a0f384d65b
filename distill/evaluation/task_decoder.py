"""The task teacher's decoder as a predictor: its input is what its teacher's cache holds of an image."""

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
class DecoderInput:
    """The input of an image: its teacher's cached maps, each (1, K, rows, columns), and the image's size."""

    maps: tuple[Tensor, ...]
    size: tuple[int, int]  # height and width in pixels


def read_input(caches: Mapping[str, Cache], inputs: tuple[Target, ...], sample: Sample) -> DecoderInput:
    """The cached maps of a sample's plain view.

    Raises:
        KeyError: it holds nothing of this image.
    """
    return DecoderInput(
        tuple(read_target(caches[target.teacher], target, sample.key, "identity")[None] for target in inputs),
        sample.size,
    )


def predict(decoder: Any, given: DecoderInput) -> np.ndarray:  # noqa: ANN401
    """Probability float32 (K, H, W) of one image, computed on the decoder's device."""
    device = next(decoder.parameters()).device
    with torch.inference_mode():
        logits = decoder(tuple(maps.to(device) for maps in given.maps), given.size)[0]
        return (logits.sigmoid() if len(logits) == 1 else logits.softmax(dim=0)).float().cpu().numpy()
