"""The teacher's features in colour: as the cache stores them, and as a linear probe predicts them from the student."""

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
from distill.metrics.overlap import without_void
from distill.publishing.gallery import CELLS, SHOWN, rgb_of, shown_key
from distill.report import thumbnails
from distill.report.cases import Tile
from distill.report.inputs import Inputs
from students import Student

BUDGET = 60e9  # multiply-accumulates that the probe may spend on the student: a few seconds on one core
AT_MOST, AT_LEAST = 64, 8  # training images on which the probe is fitted
RIDGE = 1e-3  # times the mean variance of the student's channels
BATCH = 8
VIEW = "identity"


@dataclass(frozen=True)
class Probe:
    """A linear map from one level of the student to the teacher's features, fitted on training images."""

    stride: int
    weights: Tensor  # (C + 1, K) float64, the last row the constant
    images: int  # it was fitted on
    cosine: float  # on validation images: mean over cells, in the coded space


@dataclass(frozen=True)
class TeacherView:
    """The features of one teacher on a few validation images."""

    teacher: str
    title: str
    map: str
    shape: tuple[int, int, int]
    cutoff: int  # of the low band, in half cycles an image side
    bands: tuple[str, ...]  # what the student imitated of this teacher
    probe: Probe | None
    rows: tuple[tuple[Tile, ...], ...]


def teacher_views(inputs: Inputs, student: Any) -> list[TeacherView]:  # noqa: ANN401
    """An entry for each teacher whose cache holds features of validation images.

    Args:
        inputs: the run.
        student: the trained student, on the CPU, in eval mode; a task decoder is not probed.
    """
    run, found = inputs.run, []
    for name, path in run.caches.items():
        if not cache.exists(path):
            continue
        store, recipe = cache.open(path), run.recipe.teachers[name]
        images = recorded(store, gallery(run), partial(shown_key, recipe))
        if not images or not features_of(store.spec):
            continue
        imitated = [target for target in inputs.targets if target[0] == name]
        map_, stride = chosen(inputs, store, imitated)
        probe = None
        if isinstance(student, Student):
            probe = fit_probe(inputs, student, store, images, recipe=recipe, map_=map_, stride=stride)
        shown = sorted(images, key=lambda sample: not without_void(sample.read_mask()).any())[:SHOWN]
        found.append(
            TeacherView(
                name,
                describe(store),
                map_,
                (store.spec[map_].channels, *store.spec[map_].grid),
                cutoff(store.spec[map_].grid),
                tuple(dict.fromkeys(band for _, _, band, _ in imitated)),
                probe,
                tuple(draw(store, map_, shown, student=student, probe=probe, size=run.recipe.image_size)),
            )
        )
    return found


def recorded(store: cache.Cache, samples: Iterable[Sample], key_of: Callable[[Sample], str]) -> list[Sample]:
    """The samples whose plain view the cache holds, each under its record's key."""
    found = [replace(sample, key=key_of(sample)) for sample in samples]
    return [sample for sample in found if (sample.key, VIEW) in store]


def chosen(inputs: Inputs, store: cache.Cache, imitated: Sequence[tuple[str, str, str, int]]) -> tuple[str, int]:
    """Map and stride to show: the finest that was imitated, otherwise a map of about 1/8 of the image size, at 1/8."""
    if imitated:
        _, name, _, stride = min(imitated, key=lambda target: target[3])
        return name, stride
    cells = max(1, inputs.run.recipe.image_size // 8)
    return nearest_map(store.spec, (cells, cells)).name, 8


def fit_probe(
    inputs: Inputs,
    student: Student,
    store: cache.Cache,
    images: Sequence[Sample],
    *,
    recipe: TeacherRecipe,
    map_: str,
    stride: int,
) -> Probe | None:
    """Fits the linear map by ridge regression; None if the student has no such level or too few images are cached.

    Args:
        inputs: the run.
        student: whose level at `stride` is probed.
        store: the teacher's cache.
        images: validation images under their records' keys, on which the cosine is taken.
        recipe: of the teacher.
        map_: of the teacher.
        stride: of the student.
    """
    size = inputs.run.recipe.image_size
    if stride not in student.strides or size % stride:
        return None
    macs = inputs.metrics["student"].get("macs", BUDGET)
    wanted = int(min(AT_MOST, max(AT_LEAST, BUDGET // max(1, macs))))
    known = recorded(store, inputs.run.splits.train, partial(record_key, recipe))
    train = sorted(known, key=lambda sample: sample.key)[:wanted]
    if len(train) < min(AT_LEAST, wanted):
        return None
    cells, targets = pairs(student, store, train, map_=map_, stride=stride, size=size)
    ridge = RIDGE * cells[:, :-1].var(dim=0).mean() * len(cells) * torch.eye(cells.shape[1], dtype=cells.dtype)
    ridge[-1, -1] = 0
    weights = torch.linalg.lstsq(cells.T @ cells + ridge, cells.T @ targets).solution
    grid = (size // stride, size // stride)
    held_out, true = pairs(student, store, images, map_=map_, stride=stride, size=size)
    maps = [part.view(len(images), *grid, -1).permute(0, 3, 1, 2) for part in (held_out @ weights, true)]
    return Probe(stride, weights, len(train), cosine(*maps).mean().item())


def pairs(
    student: Student, store: cache.Cache, samples: Sequence[Sample], *, map_: str, stride: int, size: int
) -> tuple[Tensor, Tensor]:
    """The student's cells with a constant (cells, C + 1), and the teacher's components at the same cells (cells, K)."""
    level, grid = student.level_of(stride), (size // stride, size // stride)
    features, targets = [], []
    for first in range(0, len(samples), BATCH):
        part = samples[first : first + BATCH]
        features.append(levels(student, part, size=size)[level].permute(0, 2, 3, 1).flatten(0, 2))
        targets += [store.decode(sample.key, VIEW, map=map_, grid=grid).flatten(1).T for sample in part]
    cells = torch.cat(features).double()
    return torch.cat([cells, torch.ones(len(cells), 1, dtype=cells.dtype)], dim=1), torch.cat(targets).double()


def levels(student: Student, samples: Sequence[Sample], *, size: int) -> tuple[Tensor, ...]:
    """The student's feature pyramid for some images, each map (N, C, h, w)."""
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
    probe: Probe | None,
    size: int,
) -> Iterator[tuple[Tile, ...]]:
    """One row per image: the image, the decoded features, their low band, their high band, the probe's prediction.

    All images share one colour scale, except the high band, which is fainter and has its own.
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
        if probe is not None:
            predicted = predict_components(student, sample, probe, size=size)
            known = series(dct(predicted), (predicted.shape[-2], predicted.shape[-1]), grid=grid)
            title = f"read from the student, 1/{probe.stride}"
            row.append(Tile(title, colours(known / scale["all"], sample.size), f"{sample.stem}: {title}", sample.size))
        yield tuple(row)


def predict_components(student: Student, sample: Sample, probe: Probe, *, size: int) -> Tensor:
    """Components (up to 3, h, w) as the probe predicts them from the student."""
    features = levels(student, [sample], size=size)[student.level_of(probe.stride)][0]
    weights = probe.weights[:, :3].to(features)
    return torch.einsum("ck,chw->khw", weights[:-1], features) + weights[-1][:, None, None]


def colours(components: Tensor, size: tuple[int, int]) -> str:
    """Components (up to 3, h, w), in units of their deviation, as a picture of the image's shape; mid-grey is zero."""
    pixels = (255 * rgb_of(components.numpy())).astype(np.uint8)
    return thumbnails.uri(thumbnails.resized(pixels, thumbnails.fitted(size, thumbnails.SIDE)))
