"""The prompts of a prompted teacher for each image, and the keys of the records that depend on them.

Labelled training images are prompted with the boxes of their mask's components, moved at random like a person's boxes;
all other images, or all if the recipe says so, with a grid of points. Validation and test images are never prompted
with their own mask, which the features would give away. The prompt is part of a record's key, so an image whose mask
is withheld (`data.labels`) does not find the record that its mask once prompted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from distill.config.schema import TeacherRecipe
from distill.data.sample import Sample, key_pairs_of

SPECK = 1e-4  # smaller components of a mask (share of the image) give no box, unless all are smaller


def has_boxes(recipe: TeacherRecipe, sample: Sample) -> bool:
    """Whether a sample is prompted with its own mask; a held-out one comes here without its mask and never is."""
    return recipe.prompts == "boxes" and bool(sample.mask_key)


def policy_of(recipe: TeacherRecipe) -> str:
    """The rule for prompts, in a line that changes whenever the prompts would."""
    grid = f"grid 1: {recipe.points} x {recipe.points} points"
    if recipe.prompts == "grid":
        return grid
    boxes = f"boxes 1: of the mask's components, each edge moved by up to {recipe.jitter:g} of its side"
    return f"{boxes}; without a mask {grid}"


def record_key(recipe: TeacherRecipe, sample: Sample) -> str:
    """The key (sha256, hex) of a sample in a teacher's cache: of the image and, if any, the prompt.

    Args:
        recipe: of the teacher.
        sample: of a training image, labelled or not; of a held-out one, `unlabel`led.
    """
    if recipe.prompts is None:
        return sample.key
    prompt = ["boxes 1", recipe.jitter, sample.mask_key] if has_boxes(recipe, sample) else ["grid 1", recipe.points]
    return hashlib.sha256(json.dumps([sample.key, *prompt]).encode()).hexdigest()


def record_keys(recipe: TeacherRecipe, samples: Iterable[Sample]) -> list[str]:
    """The `record_key` of each sample."""
    if recipe.prompts is None:
        return [key for key, _ in key_pairs_of(samples)]
    return [record_key(recipe, sample) for sample in samples]


def check_cached_prompts(recipe: TeacherRecipe, said: str, *, folder: Path) -> None:
    """Raises ValueError if a cache was extracted with other prompts than the recipe's, because its records differ.

    `said` has the prompts in the identity of the cache in `folder`; empty for a teacher without prompts.
    """
    extracted = said.split("; soft mask")[0]
    if extracted != ("" if recipe.prompts is None else policy_of(recipe)):
        raise ValueError(
            f"{folder} was extracted with prompts {extracted or 'none'!r}, but the recipe has teachers.NAME.prompts="
            f"{recipe.prompts}, jitter={recipe.jitter:g}, points={recipe.points}; set them as they "
            "were, or extract anew"
        )


def prompt_of(recipe: TeacherRecipe, sample: Sample, view: str) -> np.ndarray:
    """The prompt of a sample under a view, at the same place in every view, in fractions of the image's sides.

    Returns:
        Boxes (B, 4) as x0, y0, x1, y1, none without foreground; or points (P, 2) as x, y.
    """
    if not has_boxes(recipe, sample):
        return grid_of(recipe.points)
    return flip_boxes(jittered(boxes_of(sample.read_mask()), recipe.jitter, key=sample.key), view)


def grid_of(points: int) -> np.ndarray:
    """A grid of `points` times `points` points (P, 2), each in the middle of its cell; the same in every view."""
    places = (np.arange(points) + 0.5) / points
    return np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)


def boxes_of(mask: np.ndarray) -> np.ndarray:
    """The boxes (B, 4) of the components of a mask (H, W), edge to edge, in fractions of its sides, without specks."""
    from scipy import ndimage

    height, width = mask.shape
    labels, count = ndimage.label(mask > 0, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept = areas >= min(SPECK * mask.size, areas.max(initial=0))
    boxes = [
        (columns.start / width, rows.start / height, columns.stop / width, rows.stop / height)
        for (rows, columns), keep in zip(ndimage.find_objects(labels), kept, strict=True)
        if keep
    ]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def jittered(boxes: np.ndarray, jitter: float, *, key: str) -> np.ndarray:
    """Boxes (B, 4) whose edges are each moved by up to `jitter` of the box's side, drawn from the image's key alone."""
    random = np.random.default_rng(int(key, 16))
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return np.clip(boxes + jitter * random.uniform(-1, 1, size=boxes.shape) * sides, 0, 1)


def flip_boxes(boxes: np.ndarray, view: str) -> np.ndarray:
    """Boxes (B, 4) in fractions of an image, as they lie under a view of it."""
    x0, y0, x1, y1 = boxes.T
    if view in ("hflip", "rot180"):
        x0, x1 = 1 - x1, 1 - x0
    if view in ("vflip", "rot180"):
        y0, y1 = 1 - y1, 1 - y0
    return np.stack([x0, y0, x1, y1], axis=1)
