"""An extraction small enough to be killed a hundred times: the real verb, drawn images, a teacher of a few lines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from small_run import disc_sample

from cache.spec import FeatureSpec, MapSpec
from distill.config.schema import CacheRecipe, Recipe, StageRecipe, TeacherRecipe
from distill.data.sample import Splits
from distill.runs.run import Run
from teachers.preprocess import Prepared

CHANNELS, GRID = 5, (8, 8)
VIEWS = ["identity", "hflip"]


class CellTeacher:
    """Mean colours of cells, mixed into two maps."""

    identity: ClassVar = {"teacher": "cells", "weights": "0" * 64}
    licence = "Apache-2.0"
    spec = FeatureSpec((MapSpec("neck", CHANNELS, GRID, 8), MapSpec("p3", 3, (6, 6), 8)))

    def __init__(self):
        random = torch.Generator().manual_seed(0)
        self.mixing = {entry.name: torch.randn(entry.channels, 3, generator=random) for entry in self.spec}
        self.seen = 0

    def to(self, device, dtype=None):
        return self

    def prepare(self, image):
        return Prepared(torch.from_numpy(image).permute(2, 0, 1).float() / 255, (1.0, 1.0))

    def forward(self, pixels, valid):
        self.seen += len(pixels)
        return {
            entry.name: torch.einsum(
                "ck,nkhw->nchw", self.mixing[entry.name], torch.nn.functional.adaptive_avg_pool2d(pixels, entry.grid)
            )
            for entry in self.spec
        }


def noisy(seed):
    """A smooth random image, uint8 (48, 48, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, axis=0).repeat(8, axis=1))


def extraction_job(folder, *, images=20, calibration=8, changed=None, read=noisy) -> Run:
    """A run whose features go to folder/features: `images` to train in two views; `changed` is one that is another."""
    recipe = Recipe(
        name="cells",
        teachers={"cells": TeacherRecipe(adapter="cells", weights="none", views=VIEWS, batch_size=3)},
        cache=CacheRecipe(fidelity=0.9, calibration=calibration),
        stages={"joint": StageRecipe(epochs=1, losses={"segment": 1.0, "imitate_low": 1.0})},
        augment=replace(Recipe.__dataclass_fields__["augment"].default_factory(), views=VIEWS),
    )
    seeds = [seed + 100_000 * (seed == changed) for seed in range(images + 2)]
    samples = [replace(disc_sample("drawn", seed, (48, 48)), read_image=partial(read, seed)) for seed in seeds]
    splits = Splits(train=tuple(samples[:images]), val=tuple(samples[images:]), test={})
    return Run(recipe, splits, {"cells": folder / "features"}, folder / "run", Accelerator(cpu=True))


def content(folder) -> dict[str, bytes]:
    """Every file of a cache but its lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
