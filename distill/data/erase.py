"""Frames without an object, made from frames with one: another part of the image covers the object.

If every training image shows an object, a student finds one in most images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from cache.spec import VIEWS, flip
from distill.data.augment import generator_for, to_array, to_tensor
from distill.data.read_ahead import read_ahead
from distill.data.sample import Sample
from distill.runtime.boxes import box_around
from distill.runtime.progress import progress
from distill.runtime.resize import resize

STREAM = 5  # of random numbers, apart from those of other draws
MARGIN = 0.03  # around an object, of the image's longer side: its shadow, and the patch's soft edge
LARGEST = 0.35  # share of the image that may be covered
TRIES = 80  # parts of the image that are compared
SMALL_SIDE = 64  # pixels of the small image in which they are compared; one is narrower than the margin
BLACK = 25  # the brightest channel of a pixel outside an endoscope's field of view, at most
MORE_BLACK = 0.02  # of the covered pixels: how many more may be black than before
FRAME_SIDE = 512  # pixels, at most, of an erased validation frame


def erase_objects(image: np.ndarray, mask: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    """An image uint8 (H, W, 3) whose objects, where its mask (H, W) is not 0, are covered by other parts of the image.

    None if there is no object, if it is too large, or if no part of the image can cover it.
    """
    objects = with_margin(mask)
    return cover(image, objects, objects, random) if shows_object(mask) else None


def cover_background(image: np.ndarray, mask: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    """An image uint8 (H, W, 3) with a patch of the shape of its objects beside them; None if none fits.

    In training, such images keep a student from learning that a patch tells of an empty mask.
    """
    if not shows_object(mask):
        return None
    objects, black = with_margin(mask), image.max(axis=-1) < BLACK
    most_black = max(MORE_BLACK, black[objects].mean())
    for _ in range(TRIES):
        turned = flip(objects, VIEWS[int(random.integers(len(VIEWS)))])
        region = shifted(turned, *(int(random.integers(-side // 2, side // 2 + 1)) for side in mask.shape))
        large_enough = 2 * region.sum() > objects.sum()
        if large_enough and black[region].mean() <= most_black and not (region & objects).any():
            return cover(image, objects | region, region, random)
    return None


def cover(image: np.ndarray, objects: np.ndarray, region: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    """An image uint8 (H, W, 3) of which other parts, perhaps mirrored, cover each connected part of a region (H, W).

    None if the region is empty or too large, or if nothing without objects (H, W) fits.
    """
    if not 0 < region.mean() <= LARGEST:
        return None
    covered: np.ndarray | None = image.copy()
    labels, count = ndimage.label(region, structure=np.ones((3, 3)))
    for number in range(1, count + 1):
        if covered is not None:
            covered = cover_connected(covered, objects, labels == number, random)
    return covered


def cover_connected(
    image: np.ndarray, objects: np.ndarray, region: np.ndarray, random: np.random.Generator
) -> np.ndarray | None:
    """An image uint8 (H, W, 3) of which another part covers a region (H, W), in place; None if nothing fits.

    Of random parts without objects (H, W), the one that differs least around the region is taken. Its difference from
    the image there is interpolated into the region and added, as in Poisson image editing (Perez et al. 2003).
    """
    pixels, cell = to_tensor(image).float(), max(1, max(region.shape) // SMALL_SIDE)
    small = functional.avg_pool2d(pixels, cell, ceil_mode=True)[0]
    part = best_part(small, coarse(objects, cell), coarse(region, cell), random)
    if part is None:
        return None
    view, top, left = part
    rows, columns = box_around(region, margin_of(region.shape))
    inside = torch.from_numpy(region[rows, columns])
    height, width = inside.shape
    top, left = min(top * cell, region.shape[0] - height), min(left * cell, region.shape[1] - width)
    turned = (flip(one, view) for one in (pixels[0], torch.from_numpy(objects)))
    patch, taken = (one[..., top : top + height, left : left + width] for one in turned)
    here = pixels[0, :, rows, columns]
    edge = (~inside & ~torch.from_numpy(objects[rows, columns]) & ~taken).float()
    patch = patch + interpolated((here - patch) * edge, edge[None])
    share = soft(inside, margin_of(region.shape))
    image[rows, columns] = to_array(here.lerp(patch, share))
    return image


def coarse(mask: np.ndarray, cell: int) -> Tensor:
    """Whether a bool mask (H, W) holds anything in each cell of so many pixels, bool."""
    return functional.max_pool2d(torch.from_numpy(mask).float()[None], cell, ceil_mode=True)[0] > 0


def best_part(
    image: Tensor, objects: Tensor, region: Tensor, random: np.random.Generator
) -> tuple[str, int, int] | None:
    """The part of an image (3, H, W) that fits best into a region, as view, top row and left column of its box.

    Args:
        image: (3, H, W), from 0 to 255.
        objects: bool (H, W); no part may show them.
        region: bool (H, W), to be covered.
        random: draws the parts that are compared.
    """
    rows, columns = box_around(region.numpy(), 2)
    inside, here = region[rows, columns], image[:, rows, columns]
    height, width = inside.shape
    views = {view: (flip(image, view), flip(objects, view)) for view in VIEWS}
    parts = [
        (
            VIEWS[int(random.integers(len(VIEWS)))],
            int(random.integers(region.shape[0] - height + 1)),
            int(random.integers(region.shape[1] - width + 1)),
        )
        for _ in range(TRIES)
    ]
    there, taken = (
        torch.stack([views[view][of][..., top : top + height, left : left + width] for view, top, left in parts])
        for of in (0, 1)
    )
    black = ((there.amax(dim=1) < BLACK) & inside).sum(dim=(1, 2))
    most_black = ((here.amax(dim=0) < BLACK) & inside).sum() + MORE_BLACK * inside.sum()
    edge = ~inside & ~objects[rows, columns] & ~taken
    difference = ((there - here).abs().mean(dim=1) * edge).sum(dim=(1, 2)) / edge.sum(dim=(1, 2))  # nan: no edge
    fits = ~(taken & inside).any(dim=(1, 2)) & (black <= most_black) & edge.any(dim=(1, 2))
    difference[~fits] = torch.inf
    return parts[int(difference.argmin())] if fits.any() else None


def interpolated(values: Tensor, weights: Tensor) -> Tensor:
    """Values (C, H, W), times their weights (1, H, W) in [0, 1], smoothly continued to where the weights are 0.

    By pull and push over halved images (Gortler et al. 1996, The Lumigraph).
    """
    height, width = values.shape[-2:]
    if max(height, width) == 1:
        return values / weights.clamp(min=1e-6)
    halves = (functional.avg_pool2d(one[None], 2, ceil_mode=True)[0] for one in (values, weights))
    coarse = interpolated(*halves)
    return values + (1 - weights) * functional.interpolate(coarse[None], (height, width), mode="bilinear")[0]


def soft(region: Tensor, margin: int) -> Tensor:
    """The share (H, W) of a patch in a region, bool (H, W): rises from 0 at its edge to 1 within half a margin."""
    half = margin // 2
    mean = region.float()
    for _ in range(2):  # rows, then columns: the time of squares grows with the margin's own
        mean = functional.avg_pool1d(mean, 2 * half + 1, 1, half, count_include_pad=False).T
    return (2 * mean - 1).clamp(min=0) if half else mean


def shows_object(mask: np.ndarray) -> bool:
    """Whether a mask (H, W) has foreground; pixels of 255 are unknown."""
    return bool(((mask > 0) & (mask < 255)).any())


def with_margin(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask (H, W) that are not 0, and a margin around them, bool."""
    return ndimage.maximum_filter(mask != 0, size=2 * margin_of(mask.shape) + 1)


def margin_of(size: tuple[int, ...]) -> int:
    """The margin in pixels, in an image of this size."""
    return max(1, round(MARGIN * max(size)))


def shifted(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """A bool mask (H, W), moved down and to the right; what leaves the image is lost."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    kept = mask[max(0, -rows) : height - max(0, rows), max(0, -columns) : width - max(0, columns)]
    moved[max(0, rows) :, max(0, columns) :][: kept.shape[0], : kept.shape[1]] = kept
    return moved


def erased_frames(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples without their objects, if these can be erased; the same at every call. Reads every sample once."""
    frames = []
    pairs = zip(samples, read_ahead(samples), strict=True)
    for sample, read in progress(pairs, what="cover objects", total=len(samples)):
        frame = without_objects(read)
        if frame is not None:
            frames.append(frame_of(sample, (frame.shape[0], frame.shape[1])))
    return tuple(frames)


def frame_of(sample: Sample, size: tuple[int, int]) -> Sample:
    """A sample without its objects, in `size`, with its own name and key."""
    return replace(
        sample,
        stem=f"{sample.stem} (erased)",
        key=hashlib.sha256(f"{sample.key} erased".encode()).hexdigest(),
        size=size,
        read_image=partial(read_erased, sample),
        read_mask=partial(np.zeros, size, dtype=np.uint8),
    )


def read_erased(sample: Sample) -> np.ndarray:
    """The pixels uint8 (H, W, 3) of a sample whose objects can be erased, without them."""
    frame = without_objects(sample)
    assert frame is not None, "erased as when it was listed"
    return frame


def without_objects(sample: Sample) -> np.ndarray | None:
    """A sample's image uint8 (H, W, 3), at most `FRAME_SIDE` pixels long, without objects; None if they stay."""
    image, mask = sample.read_image(), sample.read_mask()
    scale = min(1, FRAME_SIDE / max(mask.shape))
    size = (max(1, round(scale * mask.shape[0])), max(1, round(scale * mask.shape[1])))
    small = to_array(resize(to_tensor(image), size)[0])
    objects = resize(torch.from_numpy(mask != 0)[None, None], size)[0, 0].numpy() > 0
    random = generator_for(0, 0, sample.key, stream=STREAM)
    return erase_objects(small, objects, random) if shows_object(mask) else None
