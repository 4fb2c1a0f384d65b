"""Fused targets: the maps of several teachers through one fixed 1x1 convolution, as Polyp-DiFoM fuses them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from small_run import disc_splits, recipe_of, run_of, train_killed_at, weights_of

from distill.distillation.dataset import TrainingSet
from distill.distillation.targets import Target, fuse, fuse_maps, plan_targets
from distill.runs.build import create_student
from distill.runs.caches import open_caches
from distill.training.train import train

A, B = Target("a", "m", "low", 8, (4, 4), 60, 0.5), Target("b", "n", "low", 8, (4, 4), 20, 1.0, weight=2.0)


def two_teachers(features, **imitate):
    """The drawn cache under two names, as two teachers, of which the second counts twice."""
    recipe = recipe_of(features)
    given = recipe.teachers["drawn"]
    teachers = {"drawn": given, "other": replace(given, weight=2.0)}
    return replace(recipe, teachers=teachers, imitate=replace(recipe.imitate, **imitate))


def test_targets_of_one_band_and_stride_become_one_and_soft_masks_stay():
    mask = Target("a", "mask", "mask", 1, (32, 32), 1, 1.0)
    high = replace(A, band="high", stride=4, grid=(8, 8))
    fused = fuse([mask, A, B, high], 32)
    assert fused[0] is mask
    assert [target.name for target in fused[1:]] == ["a+b/fused/low/8", "a/fused/high/4"]
    assert [target.channels for target in fused[1:]] == [32, 32]
    assert [target.sources for target in fused] == [(mask,), (A, B), (high,)]
    assert fused[1].at(64).grid == (8, 8)
    assert [part.grid for part in fused[1].at(64).parts] == [(8, 8), (8, 8)]


def test_a_fused_map_is_a_linear_map_of_the_teachers_with_the_deviation_that_it_says():
    (fused,) = fuse([A, B], 512)
    random = torch.Generator().manual_seed(1)
    maps = [part.deviation * torch.randn(part.channels, 4, 4, generator=random) for part in (A, B)]
    value = fuse_maps(fused, maps)
    assert value.shape == (512, 4, 4)
    torch.testing.assert_close(fuse_maps(fused, [2 * one for one in maps]), 2 * value)
    torch.testing.assert_close(value, sum(fuse_maps(fused, [maps[0] * k, maps[1] * (1 - k)]) for k in (0, 1)))
    assert fused.deviation == pytest.approx(math.sqrt((60 * 0.25 + 20 * 4) / 80))
    assert value.square().mean().sqrt().item() == pytest.approx(fused.deviation, rel=0.1)
    cells = torch.cat([maps[0], 2 * maps[1]]).flatten(1)
    near, far = (torch.cdist(one.T, one.T) for one in (cells / math.sqrt(80), value.flatten(1) / math.sqrt(512)))
    assert (far[near > 0] / near[near > 0] - 1).abs().max() < 0.25, "distances between cells are nearly kept"


def test_a_sample_holds_what_its_teachers_fuse_to(features, tmp_path):
    plain, fusing = two_teachers(features), two_teachers(features, fuse=6)
    datasets = []
    for recipe in (plain, fusing):
        caches = open_caches(run_of(recipe, tmp_path / "run"))
        dataset = TrainingSet(disc_splits().train, recipe, caches)
        dataset.targets = plan_targets(recipe, caches, create_student(recipe))
        datasets.append(dataset)
    for index in range(4):
        one, other = (dataset[1, index] for dataset in datasets)
        assert torch.equal(one["image"], other["image"])
        for target in datasets[1].targets:
            assert target.name.startswith("drawn+other/fused/")
            assert torch.equal(other[target.name], fuse_maps(target, [one[part.name] for part in target.parts]))


def test_a_killed_training_with_fused_targets_ends_where_an_uninterrupted_one_does(features, tmp_path, monkeypatch):
    recipe = two_teachers(features, fuse=6)
    whole, killed = (run_of(recipe, tmp_path / name) for name in ("whole", "killed"))
    summary = train(whole)
    assert {name.split("/")[0] for name in summary["targets"]} == {"drawn+other"}
    train_killed_at(5, killed, monkeypatch)
    weights = [weights_of(run) for run in (whole, killed)]
    assert all(torch.equal(one[name], other[name]) for one, other in pairwise(weights) for name in one)


def test_a_fused_map_needs_every_teacher(features):
    recipe = two_teachers(features, fuse=6)
    teachers = {**recipe.teachers, "other": replace(recipe.teachers["other"], drop=0.5)}
    with pytest.raises(
        ValueError, match=r"imitate\.fuse is 6, but a fused map needs every teacher: set teachers\.other"
    ):
        replace(recipe, teachers=teachers)
    with pytest.raises(ValueError, match=r"imitate\.fuse is -1, but must not be negative"):
        two_teachers(features, fuse=-1)
