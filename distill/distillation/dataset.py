"""Training samples: image, mask and decoded targets, augmented by (seed, epoch, sample) alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cache import Cache
from cache.codec import BANDS
from cache.fourier import fourier_band
from cache.series import WHOLE, Box, Grid, dct, limits, series
from cache.spec import flip
from distill.config.schema import Recipe
from distill.data import camera, erase
from distill.data.augment import (
    EMPTY_STREAM,
    LARGEST_ASPECT,
    Draw,
    colour,
    draw,
    draw_empty_box,
    generator_for,
    mirrored,
    to_array,
    to_tensor,
)
from distill.data.prompts import record_key
from distill.data.sample import Sample, key_pairs_of
from distill.data.teacher_dropout import draw_teacher_mask, teacher_mask_key
from distill.distillation.device_targets import matrices_of_box, read_code
from distill.distillation.targets import Target, as_target, fuse_maps
from distill.runtime.resize import resize
from distill.runtime.threads import local_processes, own_cores, small_workers
from students import MEAN, STD

KEPT_AT_MOST = 2  # the most times a decoded image's side exceeds the student's, unless its crops need more


def normalise(images: Tensor) -> Tensor:
    """RGB in [0, 1], (..., 3, H, W), to the student's input range."""
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


class TrainingSet(Dataset):
    """Training samples with the targets that a stage imitates; indexed by (epoch, index) or (epoch, index, side).

    A student that reads a teacher's maps gets those named in `inputs` instead of the image. With `on_device`, targets
    are left to `distill.distillation.device_targets.decode_targets`. With `plain`, an item also has `plain`: the image
    before its look is changed, if it has no mask; otherwise, since nothing reads it, the image again.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        recipe: Recipe,
        caches: Mapping[str, Cache],
        *,
        inputs: tuple[Target, ...] = (),
        on_device: bool = False,
    ) -> None:
        self.samples, self.recipe, self.caches, self.inputs = samples, recipe, caches, inputs
        self.on_device = on_device
        self.targets: tuple[Target, ...] = ()
        self.plain = False
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        if recipe.augment.camera:
            camera.transforms()  # once here, not in every loading process
        mixed = bool(recipe.augment.amplitudes)
        self.donors = sum(bool(mask) for _, mask in key_pairs_of(samples)) if mixed else 0  # the first ones have masks

    def keep_in_memory(self) -> None:
        """Decodes all images once, if they fit into this process's share of `data.memory_gb`.

        Forked workers share them.
        """
        side = self.side_kept
        room = self.recipe.data.memory_gb * 1e9
        pixels = accumulate(min(height, side) * min(width, side) for height, width in (s.size for s in self.samples))
        if all(4 * so_far * local_processes() <= room for so_far in pixels):
            with small_workers(own_cores()) as pool:
                self.kept = dict(enumerate(pool.map(self.decode, range(len(self.samples)))))

    @property
    def side_kept(self) -> int:
        """The side in pixels to which images are shrunk, so that the smallest crop still fills the largest side."""
        return math.ceil(max(self.recipe.sides) * max(KEPT_AT_MOST, LARGEST_ASPECT**0.5 / self.recipe.augment.min_crop))

    def decode(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) and mask (H, W) of a sample, uint8, shrunk if they are larger than `side_kept`."""
        image, mask = self.samples[index].read_image(), self.samples[index].read_mask()
        side = self.side_kept
        size = (min(image.shape[0], side), min(image.shape[1], side))
        if size == image.shape[:2]:
            return image, mask
        return to_array(resize(to_tensor(image), size)[0]), resize_mask(mask, size)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: tuple[int, ...]) -> dict[str, Any]:
        epoch, number, *asked = index
        sample, recipe = self.samples[number], self.recipe
        image, mask = self.kept.get(number) or self.decode(number)
        retouched = self.retouch(sample, image, mask, epoch)
        image, mask = retouched or (image, mask)
        drawn = self.draw(sample, mask, epoch, whole=retouched is not None)
        (side,) = asked or (recipe.image_size,)
        size, box = (side, side), mirrored(drawn.box, drawn.view)  # turning a small result is faster than a large image
        item = {"mask": torch.from_numpy(flip(resize_mask(mask, size, box), drawn.view))}
        if not self.inputs:
            pixels = (flip(resize_image(image, size, box), drawn.view) / 255).clamp(0, 1)
            item["image"] = normalise(self.change_look(colour(pixels, drawn), epoch, sample.key))
            if self.plain:
                item["plain"] = item["image"] if sample.mask_key else normalise(pixels)
        targets = self.targets if side == recipe.image_size else tuple(target.at(side) for target in self.targets)
        wanted, spectra = (*self.inputs, *targets), dict[tuple[str, ...], Tensor]()
        for target in wanted:
            if self.on_device:
                self.deliver(target, sample, drawn, item)
            else:
                item[target.name] = self.decode_target(target, sample, drawn, wanted, spectra)
        drop = {part.teacher: recipe.teachers[part.teacher].drop for target in targets for part in target.sources}
        kept = draw_teacher_mask(drop, seed=recipe.seed, epoch=epoch, sample=sample.key)
        if recipe.augment.erase:  # no teacher has seen a retouched image
            seen, keys = torch.tensor(retouched is None), {teacher_mask_key(target.teacher) for target in targets}
            kept = {key: kept.get(key, seen) & seen for key in keys}
        return item | kept

    def retouch(
        self, sample: Sample, image: np.ndarray, mask: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Image and mask with a patch, at rate `augment.erase` over the objects and as often beside them; else None."""
        share = self.recipe.augment.erase
        if not (share and sample.mask_key):
            return None
        random = generator_for(self.recipe.seed, epoch, sample.key, stream=erase.STREAM)
        point = random.random()
        if point < share:
            covered = erase.erase_objects(image, mask, random)
            return None if covered is None else (covered, np.zeros_like(mask))
        covered = erase.cover_background(image, mask, random) if point < 2 * share else None
        return None if covered is None else (covered, mask)

    def draw(self, sample: Sample, mask: np.ndarray, epoch: int, *, whole: bool = False) -> Draw:
        """Draws view, box and colours for a sample with mask (H, W); at rate `augment.empty` a box without object.

        No such box if `whole`.
        """
        augment, seed = self.recipe.augment, self.recipe.seed
        drawn = draw(augment, generator_for(seed, epoch, sample.key))
        random = generator_for(seed, epoch, sample.key, stream=EMPTY_STREAM)
        if augment.empty and sample.mask_key and not whole and random.random() < augment.empty:
            box = draw_empty_box(mask, random)
            return drawn if box is None else replace(drawn, box=mirrored(box, drawn.view))
        return drawn

    def decode_target(
        self,
        target: Target,
        sample: Sample,
        drawn: Draw,
        wanted: Sequence[Target],
        spectra: dict[tuple[str, ...], Tensor],
    ) -> Tensor:
        """A target in a sample's drawn view and box, shaped as in `read_target`; `wanted` targets share `spectra`."""
        if target.parts:
            return fuse_maps(
                target, [self.decode_target(part, sample, drawn, wanted, spectra) for part in target.parts]
            )
        cache, key = self.caches[target.teacher], record_key(self.recipe.teachers[target.teacher], sample)
        read, box, turned = self.view_and_box(target, drawn)
        if target.source not in spectra:
            sharing = [part.grid for one in wanted for part in one.sources if part.source == target.source]
            grid = max(rows for rows, _ in sharing), max(columns for _, columns in sharing)
            under = limits(cache.codecs[target.map].grid, box=box, grid=grid)
            spectra[target.source] = read_spectrum(cache, target, key, read, under=under)
        return flip(on_grid(cache, target, spectra[target.source], box), turned)

    def deliver(self, target: Target, sample: Sample, drawn: Draw, item: dict[str, Any]) -> None:
        """Adds to a sample's item the data from which the device decodes a target."""
        for part in target.sources:
            cache, key = self.caches[part.teacher], record_key(self.recipe.teachers[part.teacher], sample)
            read, box, turned = self.view_and_box(part, drawn)
            item.update(read_code(cache, part, key, view=read, known=item))
            item.update(matrices_of_box(cache.codecs[part.map], part, box=box, turned=turned))

    def view_and_box(self, target: Target, drawn: Draw) -> tuple[str, Box, str]:
        """The view to read for a drawn target, the box in it, and the view to which the result is then turned."""
        read = self.recipe.view_read(target.teacher, drawn.view)
        if read == drawn.view:
            return read, drawn.box, "identity"
        return read, mirrored(drawn.box, drawn.view), drawn.view

    def change_look(self, image: Tensor, epoch: int, key: str) -> Tensor:
        """A float image (3, H, W) in [0, 1], changed by `augment.amplitudes` and `augment.camera`, if they are set."""
        augment = self.recipe.augment
        if not (augment.amplitudes or augment.camera):
            return image
        random = generator_for(self.recipe.seed, epoch, key, stream=camera.STREAM)
        if random.random() < augment.amplitudes:
            number, share = int(random.integers(self.donors)), random.random()
            other, _ = self.kept.get(number) or self.decode(number)
            donor = resize_image(other, (image.shape[-2], image.shape[-1]), WHOLE) / 255
            image = camera.mix_amplitudes(image, donor.clamp(0, 1), share)
        return camera.change_camera(image, augment.camera, random)


def read_target(cache: Cache, target: Target, key: str, view: str, box: Box = WHOLE) -> Tensor:
    """A target decoded from a cache: features (K, *grid) in the coded space, or the logits of a soft mask.

    Logits are (*grid) for one class, (classes, *grid) for several.
    """
    return on_grid(cache, target, read_spectrum(cache, target, key, view), box)


def read_spectrum(cache: Cache, target: Target, key: str, view: str, *, under: Grid | None = None) -> Tensor:
    """The cosine coefficients (K, U, V) of a target; reading them is most of the work.

    They serve any grid, or with `under`, for a band of the code, only grids that represent no higher frequencies.
    """
    code, codec = cache.read(key, view, map=target.map, bands=target.bands), cache.codecs[target.map]
    if target.by_fourier:  # as in the paper: a band of the whole map, from which a box is then taken
        return dct(fourier_band(codec.decode(code), target.band))
    return codec.coefficients(code, target.band if target.band in BANDS else "all", under=under)


def on_grid(cache: Cache, target: Target, spectrum: Tensor, box: Box) -> Tensor:
    """A target in a box of the image, on its grid, from its spectrum (K, U, V); shapes as in `read_target`."""
    codec = cache.codecs[target.map]
    return as_target(codec, target, series(spectrum, codec.grid, box=box, grid=target.grid))


def resize_image(image: np.ndarray, size: tuple[int, int], box: Box) -> Tensor:
    """A box of an image (H, W, 3) as float32 (3, *size), in its own units."""
    if image.shape[:2] == size and box == WHOLE:
        return to_tensor(image)[0].float()
    return resize(to_tensor(image), size, box=box)[0]


def resize_mask(mask: np.ndarray, size: tuple[int, int], box: Box = WHOLE) -> np.ndarray:
    """A mask (H, W) of class numbers as uint8 (*size): each class is resized as an image; the largest share wins."""
    classes = classes_in(mask)
    if len(classes) == 1:
        return np.full(size, classes[0], dtype=np.uint8)
    if mask.shape == size and box == WHOLE:
        return np.ascontiguousarray(mask)
    planes = torch.from_numpy(np.stack([mask == value for value in classes[1:]]).view(np.uint8))[None]
    shares = resize(planes, size, box=box)[0].numpy()
    if len(classes) == 2:
        return np.where(shares[0] > 0.5, classes[1], classes[0]).astype(np.uint8)
    rest = 1 - shares.sum(axis=0, keepdims=True)
    return classes[np.concatenate([rest, shares]).argmax(axis=0)].astype(np.uint8)


def classes_in(mask: np.ndarray) -> np.ndarray:
    """The class numbers (n,) of a mask uint8 (H, W), ascending."""
    low, high = int(mask.min()), int(mask.max())
    if high - low <= 1:  # nearly always; counting takes ten times as long
        return np.arange(low, high + 1, dtype=np.uint8)
    return np.flatnonzero(np.bincount(mask.reshape(-1), minlength=256)).astype(np.uint8)
