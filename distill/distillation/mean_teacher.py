"""The mean teacher: the student imitates its own moving average on images without masks.

Tarvainen and Valpola (2017). The average sees such an image unchanged, the student with another look
(`augment.colour`, `camera`, `amplitudes`), in the same view and box, so that their pixels correspond. With
`augment.cutmix`, half of an image is covered by another image, and the average's prediction likewise (French et al.
2020, who find that this makes consistency work in segmentation).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from distill.metrics.overlap import IGNORED

PLAIN = "plain"  # in a batch: images as the average sees them, (N, 3, H, W)
AVERAGE = "average"  # in a batch: its logits as a soft mask, (N, H, W) for one class, (N, K, H, W) for several
MIXED_AREA = 0.5  # of an image: the share that another covers


def unlabelled_in(mask: Tensor) -> Tensor:
    """Flags (N,) bool of the images of a batch whose mask (N, H, W) has no labelled pixel."""
    return (mask == IGNORED).flatten(1).all(dim=1)


@torch.no_grad()
def taught(batch: dict[str, Tensor], average: Callable[[Tensor], Tensor], *, cutmix: float) -> dict[str, Tensor]:
    """A batch with the average's logits for its unlabelled images (0 for others), some of which are mixed.

    Args:
        batch: `image` and `plain` (N, 3, H, W), `mask` (N, H, W).
        average: a network in evaluation mode, images to logits (n, K, H, W).
        cutmix: the chance that an unlabelled image is half covered by the one before it (the first by the last).
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
    """Images or logits (n, C, H, W), replaced where covered (n, 1, H, W) by those of the previous image."""
    return torch.where(covered, tensors.roll(1, dims=0), tensors)


def draw_covered(count: int, size: tuple[int, int], *, share: float) -> Tensor:
    """Pixels covered by another image, bool (count, 1, *size): a box of `MIXED_AREA` in a `share` of the images."""
    covered = torch.zeros(count, 1, *size, dtype=torch.bool)
    for plane in covered:
        chosen, shape, top, left = torch.rand(4).tolist()
        if chosen < share:
            height = math.exp(shape * math.log(MIXED_AREA))
            rows, columns = round(height * size[0]), round(MIXED_AREA / height * size[1])
            y, x = round(top * (size[0] - rows)), round(left * (size[1] - columns))
            plane[:, y : y + rows, x : x + columns] = True
    return covered
