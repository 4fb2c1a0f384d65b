"""Runs small enough for tests: a trained U-Net of width 4, and one to be taught, on a few drawn discs."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

import cache
import students
from cache.spec import FeatureSpec, MapSpec, flip
from distill.config.schema import (
    AugmentRecipe,
    DataRecipe,
    EvaluateRecipe,
    OptimiserRecipe,
    PublishRecipe,
    Recipe,
    StageRecipe,
    StudentRecipe,
    TeacherRecipe,
)
from distill.data.sample import Sample, Splits
from distill.distillation.dataset import normalise
from distill.runs.run import Run
from distill.runtime.resize import resize

IMAGE_SIZE = 32
VIEWS = ("identity", "hflip", "vflip", "rot180")
CHANNELS, GRID = 6, (12, 12)
SIZES = {"left": ((40, 56), (40, 56), (75, 61)), "right": ((32, 90), (57, 43))}


def read_disc(seed: int, size: tuple[int, int], part: str) -> np.ndarray:
    """A bright disc on a dark ground with noise, or its mask."""
    random = np.random.default_rng(seed)
    y, x = np.ogrid[: size[0], : size[1]]
    centre, radius = random.uniform(0.3, 0.7, size=2) * size, random.uniform(0.2, 0.35) * min(size)
    disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    if part == "mask":
        return disc.astype(np.uint8)
    noise = random.integers(0, 60, size=(*size, 3))
    return (noise + np.where(disc[..., None], (120, 90, 80), (70, 40, 90))).astype(np.uint8)


def disc_sample(dataset: str, seed: int, size: tuple[int, int]) -> Sample:
    image, mask = (partial(read_disc, seed, size, part) for part in ("image", "mask"))
    return Sample(dataset, f"frame-é{seed}", f"{seed:064x}", f"{seed:064x}", size, None, image, mask)


def disc_splits() -> Splits:
    seeds = iter(range(100))
    test = {name: tuple(disc_sample(name, next(seeds), size) for size in sizes) for name, sizes in SIZES.items()}
    train, val = (tuple(disc_sample("left", next(seeds), (40, 56)) for _ in range(count)) for count in (8, 2))
    return Splits(train=train, val=val, test=test, notes=("two discs of left were drawn by the same hand",))


@lru_cache(maxsize=1)
def taught_tensors() -> dict[str, torch.Tensor]:
    """A student that finds the discs, roughly: figures of 0 or 1 would prove little."""
    torch.manual_seed(0)
    student = students.create("unet", width=4)
    train = disc_splits().train
    images = [torch.from_numpy(sample.read_image()).permute(2, 0, 1)[None] for sample in train]
    masks = [torch.from_numpy(sample.read_mask())[None, None] for sample in train]
    size = (IMAGE_SIZE, IMAGE_SIZE)
    inputs = normalise(torch.cat([resize(image, size) for image in images]) / 255)
    truth = torch.cat([resize(mask, size) for mask in masks])
    optimiser = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for _ in range(25):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(student(inputs), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return student.state_dict()


def small_run(folder, *, data: str = "builtin", **publish) -> Run:
    """A trained run in `folder`; `publish` are fields of the recipe's publish part."""
    recipe = Recipe(
        name="discs",
        image_size=IMAGE_SIZE,
        data=DataRecipe(name=data, root=None if data == "builtin" else str(folder)),
        student=StudentRecipe(width=4),
        stages={"semantic": StageRecipe(epochs=1, losses={"segment": 1.0})},
        publish=PublishRecipe(**{"examples": 3, **publish}),
    )
    run = Run(recipe, disc_splits(), {}, folder / "runs" / "discs-unet-0123456789ab", Accelerator(cpu=True))
    run.weights.parent.mkdir(parents=True)
    save_file(taught_tensors(), run.weights)
    run.trained.write_text("{}")
    return run


def write_features(folder) -> None:
    """A cache as a teacher would have left it: smooth random maps with the disc in their first channel.

    It holds training images in every view, validation and test images as they are.
    """
    random = torch.Generator().manual_seed(0)
    splits = disc_splits()
    records = [(sample, view) for sample in splits.train for view in VIEWS]
    trained = len(records)
    records += [(sample, "identity") for part in (splits.val, *splits.test.values()) for sample in part]
    coarse = torch.randn(len(records), CHANNELS, 5, 5, generator=random)
    maps = torch.nn.functional.interpolate(coarse, GRID, mode="bicubic")
    maps = maps + 0.3 * torch.randn(maps.shape, generator=random)
    for drawn, (sample, view) in zip(maps, records, strict=True):
        mask = torch.from_numpy(flip(sample.read_mask(), view, axes=(0, 1)))
        drawn[0] += 3 * resize(mask[None, None].float(), GRID)[0, 0]
    codec = cache.fit(maps[:trained], fidelity=0.9)
    spec = FeatureSpec((MapSpec("neck", CHANNELS, GRID, 8),))
    keys = sorted(sample.key for sample in splits.train)
    store = cache.create(
        folder,
        spec=spec,
        codecs={"neck": codec},
        identity={"teacher": "drawn", "weights": "0" * 64},
        licence="Apache-2.0",
        fidelity=0.9,
        batch_size=4,
        views=VIEWS,
        calibration=keys,
    )
    codes = [(sample.key, view, {"neck": codec.encode(maps[i])}) for i, (sample, view) in enumerate(records)]
    codes.sort(key=lambda record: record[:2])
    cache.write_shard(store, codes, fidelity={"neck": 0.9})


def recipe_of(features=None, **changes) -> Recipe:
    imitation = {"imitate_low": 1.0} if features else {}
    recipe = Recipe(
        name="discs",
        image_size=64,
        student=StudentRecipe(width=2),
        teachers={"drawn": TeacherRecipe(weights="given", cache=str(features))} if features else {},
        augment=AugmentRecipe(min_crop=0.5, colour=0.4),
        optimiser=OptimiserRecipe(batch_size=4, learning_rate=1e-2, warmup=0.2),
        stages={
            "semantic": StageRecipe(epochs=3, losses={"segment": 1.0, **imitation}),
            "boundary": StageRecipe(
                epochs=2,
                losses={"segment": 1.0, "boundary": 0.5, **({"imitate_high": 0.5} if features else {})},
            ),
        },
        evaluate=EvaluateRecipe(every=1),
    )
    return replace(recipe, **changes)


def run_of(recipe: Recipe, folder) -> Run:
    """A run on the discs; caches that are not given lie beside its folder."""
    caches = {name: Path(entry.cache or folder.parent / name) for name, entry in recipe.consulted.items()}
    return Run(recipe, disc_splits(), caches, folder, Accelerator(cpu=True))


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.weights)


def train_until(run: Run, monkeypatch, *, step: int) -> None:
    """Trains a run that saves at every step and is killed before `step`."""
    training = import_module("distill.training.train")
    train_step = training.train_step

    def until(state, span, number, *args, **named):
        if number == step:
            raise KilledError
        return train_step(state, span, number, *args, **named)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(training, "LOG_EVERY_STEPS", 1)
        patch.setattr(training, "CHECKPOINT_EVERY_SECONDS", 0.0)
        patch.setattr(training, "train_step", until)
        training.train(run)


class KilledError(RuntimeError):
    pass


def train_killed_at(step: int, run: Run, monkeypatch) -> dict:
    """Trains a run that saves at every step, is killed before `step`, and continues; returns the summary."""
    training = import_module("distill.training.train")  # the module: the package has a function of that name
    monkeypatch.setattr(training, "LOG_EVERY_STEPS", 1)
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_SECONDS", 0.0)
    train_until(run, monkeypatch, step=step)
    return training.train(run)
