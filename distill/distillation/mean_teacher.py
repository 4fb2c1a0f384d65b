"""The mean teacher: what the student's own moving average says of images without masks.

Tarvainen and Valpola (2017). The average sees such an image as it is, the student with another look
(`augment.colour`, `camera`, `amplitudes`), in the same view and box, so that both speak of the same pixels. With
`augment.cutmix` half of an image is covered by another one, and so is what the average says of it (French et al. 2020,
for whom this is what makes consistency work in segmentation).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from distill.metrics.overlap import IGNORED

PLAIN = "plain"  # in a batch: images as the average sees them, (N, 3, H, W)
AVERAGE = "average"  # in a batch: its logits as a soft mask, (N, H, W) of one class, (N, K, H, W) of several
MIXED_AREA = 0.5  # of an image: what another covers


def unlabelled_in(mask: Tensor) -> Tensor:
    """A flag (N,) bool of each image of a batch: no pixel of its mask (N, H, W) is labelled."""
    return (mask == IGNORED).flatten(1).all(dim=1)


@torch.no_grad()
def taught(batch: dict[str, Tensor], average: Callable[[Tensor], Tensor], *, cutmix: float) -> dict[str, Tensor]:
    """A batch with the average's logits of its unlabelled images, 0 for others; some of these images are mixed.

    Args:
        batch: `image` and `plain` (N, 3, H, W), `mask` (N, H, W).
        average: a network in evaluation mode, images to logits (n, K, H, W).
        cutmix: the chance of an unlabelled image to be half covered by the one before it, the first by the last.
    """
    unlabelled, images = unlabelled_in(batch["mask"]), batch["image"]
    logits = average(batch[PLAIN][unlabelled]) if bool(unlabelled.any()) else images.new_zeros(0, 1, *images.shape[2:])
    covered = draw_covered(len(logits), (images.shape[-2], images.shape[-1]), share=cutmix).to(images.device)
    shown = images.clone()
    shown[unlabelled] = mix(images[unlabelled], covered)
    said = logits.new_zeros(len(images), *logits.shape[1:])
    said[unlabelled] = mix(logits, covered)
    return {**batch, "image": shown, AVERAGE: said[:, 0] if said.shape[1] == 1 else said}


def mix(tensors: Tensor, covered: Tensor) -> Tensor:
    """Images or logits (n, C, H, W) which, where covered (n, 1, H, W), are those of the one before."""
    return torch.where(covered, tensors.roll(1, dims=0), tensors)


def draw_covered(count: int, size: tuple[int, int], *, share: float) -> Tensor:
    """Pixels that another image covers, bool (count, 1, *size): of a share of images a box of `MIXED_AREA`."""
    covered = torch.zeros(count, 1, *size, dtype=torch.bool)
    for plane in covered:
        chosen, shape, top, left = torch.rand(4).tolist()
        if chosen < share:
            height = math.exp(shape * math.log(MIXED_AREA))
            rows, columns = round(height * size[0]), round(MIXED_AREA / height * size[1])
            y, x = round(top * (size[0] - rows)), round(left * (size[1] - columns))
            plane[:, y : y + rows, x : x + columns] = True
    return covered
