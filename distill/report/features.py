"""What the teacher saw, as its code keeps it, and what of it can be read from the student: features as colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cache
from cache.quality import cosine
from cache.series import cutoff, dct, series
from distill.cache_report.report import describe
from distill.config.schema import TeacherRecipe
from distill.data.prompts import record_key
from distill.data.sample import Sample
from distill.distillation.dataset import normalise, resize_image
from distill.distillation.targets import features_of, nearest_map
from distill.extraction.plan import gallery
from distill.publishing.gallery import CELLS, SHOWN, SPREAD, shown_key
from distill.report import thumbnails
from distill.report.cases import Tile
from distill.report.inputs import Material
from students import Student

BUDGET = 60e9  # multiply-accumulates that reading the student may take: a few seconds on one core
AT_MOST, AT_LEAST = 64, 8  # training images from which the student is read
RIDGE = 1e-3  # of the mean variance of the student's channels
BATCH = 8
VIEW = "identity"


@dataclass(frozen=True)
class Reading:
    """How the teacher's features are read from the student: a linear map fitted on training images, at one level."""

    stride: int
    weights: Tensor  # (C + 1, K) float64, the last row the constant
    images: int  # it was fitted on
    cosine: float  # on validation images: mean over cells, in the coded space


@dataclass(frozen=True)
class Seen:
    """What one teacher saw in a few validation images."""

    teacher: str
    title: str
    map: str
    shape: tuple[int, int, int]
    cutoff: int  # of the low band, in half cycles an image side
    bands: tuple[str, ...]  # what the student imitated of this teacher
    reading: Reading | None
    rows: tuple[tuple[Tile, ...], ...]


def seen(material: Material, student: Any) -> list[Seen]:  # noqa: ANN401
    """An entry for each teacher whose cache keeps features of validation images.

    Args:
        material: the run.
        student: the trained one, on the CPU, in eval mode; a task decoder is not read.
    """
    run, found = material.run, []
    for name, path in run.caches.items():
        if not cache.exists(path):
            continue
        store, recipe = cache.open(path), run.recipe.teachers[name]
        images = recorded(store, gallery(run), partial(shown_key, recipe))
        if not images or not features_of(store.spec):
            continue
        imitated = [target for target in material.targets if target[0] == name]
        map_, stride = chosen(material, store, imitated)
        reading = None
        if isinstance(student, Student):
            reading = read(material, student, store, images, recipe=recipe, map_=map_, stride=stride)
        shown = sorted(images, key=lambda sample: not sample.read_mask().any())[:SHOWN]
        found.append(
            Seen(
                name,
                describe(store),
                map_,
                (store.spec[map_].channels, *store.spec[map_].grid),
                cutoff(store.spec[map_].grid),
                tuple(dict.fromkeys(band for _, _, band, _ in imitated)),
                reading,
                tuple(draw(store, map_, shown, student=student, reading=reading, size=run.recipe.image_size)),
            )
        )
    return found


def recorded(store: cache.Cache, samples: Iterable[Sample], key_of: Callable[[Sample], str]) -> list[Sample]:
    """The samples whose plain view the cache holds, each under its record's key."""
    found = [replace(sample, key=key_of(sample)) for sample in samples]
    return [sample for sample in found if (sample.key, VIEW) in store]


def chosen(material: Material, store: cache.Cache, imitated: Sequence[tuple[str, str, str, int]]) -> tuple[str, int]:
    """Map and stride to show: the finest that was imitated; else a map about 1/8 of the student's images, at 1/8."""
    if imitated:
        _, name, _, stride = min(imitated, key=lambda target: target[3])
        return name, stride
    cells = max(1, material.run.recipe.image_size // 8)
    return nearest_map(store.spec, (cells, cells)).name, 8


def read(
    material: Material,
    student: Student,
    store: cache.Cache,
    images: Sequence[Sample],
    *,
    recipe: TeacherRecipe,
    map_: str,
    stride: int,
) -> Reading | None:
    """Fits the linear map by ridge regression; None where the student has no such level or few images are known.

    Args:
        material: the run.
        student: whose level at `stride` is read.
        store: the teacher's cache.
        images: validation images under their records' keys, on which the cosine is taken.
        recipe: of the teacher.
        map_: of the teacher.
        stride: of the student.
    """
    size = material.run.recipe.image_size
    if stride not in student.strides or size % stride:
        return None
    macs = material.metrics["student"].get("macs", BUDGET)
    wanted = int(min(AT_MOST, max(AT_LEAST, BUDGET // max(1, macs))))
    known = recorded(store, material.run.splits.train, partial(record_key, recipe))
    train = sorted(known, key=lambda sample: sample.key)[:wanted]
    if len(train) < min(AT_LEAST, wanted):
        return None
    inputs, targets = pairs(student, store, train, map_=map_, stride=stride, size=size)
    ridge = RIDGE * inputs[:, :-1].var(dim=0).mean() * len(inputs) * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    ridge[-1, -1] = 0
    weights = torch.linalg.lstsq(inputs.T @ inputs + ridge, inputs.T @ targets).solution
    grid = (size // stride, size // stride)
    held_out, true = pairs(student, store, images, map_=map_, stride=stride, size=size)
    maps = [part.view(len(images), *grid, -1).permute(0, 3, 1, 2) for part in (held_out @ weights, true)]
    return Reading(stride, weights, len(train), cosine(*maps).mean().item())


def pairs(
    student: Student, store: cache.Cache, samples: Sequence[Sample], *, map_: str, stride: int, size: int
) -> tuple[Tensor, Tensor]:
    """Cells of the student's level (cells, C + 1), with a constant, and the teacher's components there (cells, K)."""
    level, grid = student.level_of(stride), (size // stride, size // stride)
    inputs, targets = [], []
    for first in range(0, len(samples), BATCH):
        part = samples[first : first + BATCH]
        features = levels(student, part, size=size)[level].permute(0, 2, 3, 1)
        inputs.append(features.flatten(0, 2))
        targets += [store.decode(sample.key, VIEW, map=map_, grid=grid).flatten(1).T for sample in part]
    cells = torch.cat(inputs).double()
    return torch.cat([cells, torch.ones(len(cells), 1, dtype=cells.dtype)], dim=1), torch.cat(targets).double()


def levels(student: Student, samples: Sequence[Sample], *, size: int) -> tuple[Tensor, ...]:
    """The student's pyramid for some images, each map (N, C, h, w)."""
    whole = (0.0, 0.0, 1.0, 1.0)
    images = [normalise(resize_image(sample.read_image(), (size, size), whole) / 255) for sample in samples]
    with torch.inference_mode():
        return student.features(torch.stack(images))


def draw(
    store: cache.Cache,
    name: str,
    samples: Sequence[Sample],
    *,
    student: Any,  # noqa: ANN401
    reading: Reading | None,
    size: int,
) -> Iterator[tuple[Tile, ...]]:
    """A row an image: the image, all that the code keeps, its low band, its high band, what the student knows.

    One scale of colours for all images; the high band, which is fainter, has one of its own.
    """
    grid = (CELLS, CELLS)
    bands = ("all", "low", "high")
    maps = {
        band: torch.stack([store.decode(s.key, VIEW, map=name, grid=grid, band=band)[:3] for s in samples])
        for band in bands
    }
    scale = {band: maps[band].std(dim=(0, 2, 3), keepdim=True)[0].clamp_min(1e-6) for band in bands}
    for number, sample in enumerate(samples):
        row = [Tile("image", thumbnails.image_tile(sample.read_image()), f"{sample.stem}: the image", sample.size)]
        titles = {"all": "teacher, all of the code", "low": "its low band", "high": "its high band, own scale"}
        for band, title in titles.items():
            picture = colours(maps[band][number] / scale[band], sample.size)
            row.append(Tile(title, picture, f"{sample.stem}: three principal components, {band}", sample.size))
        if reading is not None:
            said = said_by(student, sample, reading, size=size)
            known = series(dct(said), (said.shape[-2], said.shape[-1]), grid=grid)
            title = f"read from the student, 1/{reading.stride}"
            row.append(Tile(title, colours(known / scale["all"], sample.size), f"{sample.stem}: {title}", sample.size))
        yield tuple(row)


def said_by(student: Student, sample: Sample, reading: Reading, *, size: int) -> Tensor:
    """Three components (3, h, w) as they are read from the student."""
    features = levels(student, [sample], size=size)[student.level_of(reading.stride)][0]
    weights = reading.weights[:, :3].to(features)
    return torch.einsum("ck,chw->khw", weights[:-1], features) + weights[-1][:, None, None]


def colours(components: Tensor, size: tuple[int, int]) -> str:
    """Three components in units of their deviation (3, h, w) as a picture of an image's shape; mid-grey is zero."""
    rgb = (0.5 + components / (2 * SPREAD)).clamp(0, 1).permute(1, 2, 0).numpy()
    return thumbnails.uri(thumbnails.resized((255 * rgb).astype(np.uint8), thumbnails.fitted(size, thumbnails.SIDE)))
