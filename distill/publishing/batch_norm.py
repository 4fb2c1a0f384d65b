"""The statistics of a student's batch norms, estimated anew from images without masks."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from distill.data.image_io import encoded, read_image
from distill.inference.images import UNREADABLE
from distill.inference.inputs import Input
from distill.inference.model import InferenceModel
from distill.runtime.issues import first_line
from distill.runtime.progress import progress

LEAST = 8  # images: fewer say little about a camera
BATCH = 16  # images whose statistics are taken together, as in training

logger = logging.getLogger("bandpass")


def norms_of(model: InferenceModel) -> list[_BatchNorm]:
    """The batch norms that keep running statistics."""
    return [one for one in model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]


def readable(
    inputs: Sequence[Input], *, use: Callable[[np.ndarray], object] | None = None, what: str = "read"
) -> list[tuple[Path, str]]:
    """Path and sha256 of each readable picture; the others are left out with a warning.

    Args:
        inputs: the pictures.
        use: called with each readable picture in turn, RGB uint8 (H, W, 3).
        what: name shown with the progress.

    Raises:
        ValueError: fewer than `LEAST` are left.
    """
    kept = []
    for one in progress(inputs, what=what, total=len(inputs)):
        try:
            data = encoded(one.path)
            image = read_image(data)
        except UNREADABLE as error:
            logger.warning("left out %s: it cannot be read (%s)", one.path, first_line(error))
            continue
        if use:
            use(image)
        kept.append((one.path, hashlib.sha256(data).hexdigest()))
    require_enough(kept)
    return kept


def require_enough(images: Sequence[object]) -> None:
    """Raises ValueError for fewer than `LEAST` images."""
    if len(images) < LEAST:
        raise ValueError(f"expected at least {LEAST} images to estimate statistics from, got {len(images)}; give more")


def read(frames: Sequence[tuple[Path, str]], what: str) -> Iterator[np.ndarray]:
    """The images, RGB uint8 (H, W, 3), one at a time, with progress under the name `what`."""
    for path, _ in progress(frames, what=what, total=len(frames)):
        yield read_image(path)


def estimate_statistics(model: InferenceModel, frames: Sequence[tuple[Path, str]]) -> InferenceModel:
    """A copy of the model whose batch norms have the mean statistics over batches of the images, equally weighted.

    As in training, each batch is normalised by its own statistics; dropout stays off. Neighbours in the list, usually
    frames of one video, go into different batches.
    """
    adapted = copy.deepcopy(model).eval()
    norms = norms_of(adapted)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # in torch, None means a plain mean over batches
        norm.train()
    count = math.ceil(len(frames) / BATCH)
    with torch.no_grad():
        for number in progress(range(count), what="estimate statistics", total=count, unit="batches"):
            adapted.student(torch.cat([shown(adapted, path) for path, _ in frames[number::count]]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return adapted.eval()


def shown(model: InferenceModel, path: Path) -> Tensor:
    """The student's input (1, 3, S, S) of a picture, on the model's device."""
    return model.normalised(torch.from_numpy(read_image(path))[None].to(model.mean.device))
