"""Targets that the device decodes: the same as those that the loader decodes, from a fraction of the bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from natural_maps import natural_maps
from small_run import disc_splits, recipe_of, run_of

import cache
from cache.spec import MASK
from distill.bench.inputs import LARGE, drawn_maps, write_cache
from distill.config.schema import AugmentRecipe, ImitateRecipe, StageRecipe, TeacherRecipe
from distill.distillation.dataset import TrainingSet
from distill.distillation.device_targets import decode_targets
from distill.distillation.loading import collate
from distill.distillation.targets import Target, plan_targets
from distill.runs.build import create_student
from distill.runs.caches import open_caches
from distill.training import state as training_state
from distill.training.jsonl_log import read_log
from distill.training.train import train

LOSSES = {"segment": 1.0, "imitate_low": 1.0, "imitate_high": 0.5}


def both_ways(recipe, caches, targets, indices, *, inputs=()):
    """A batch as the loader decodes it, and as the device does from what it is given."""
    batches = []
    for on_device in (False, True):
        dataset = TrainingSet(disc_splits().train, recipe, caches, inputs=inputs, on_device=on_device)
        dataset.targets = targets
        batches.append(collate([dataset[index] for index in indices]))
    return batches[0], decode_targets(batches[1], (*inputs, *targets), caches), batches[1]


def require_equal(loaded, decoded):
    assert loaded.keys() == decoded.keys()
    for name, tensor in loaded.items():
        assert tensor.shape == decoded[name].shape
        scale = tensor.float().abs().max().item()
        torch.testing.assert_close(decoded[name], tensor, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("imitate", [{}, {"bands": "fourier"}, {"fuse": 5}], ids=["cosine", "fourier", "fused"])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_batch_that_the_device_decodes_is_the_one_that_the_loader_decodes(features, tmp_path, imitate, mirror):
    losses = {**LOSSES, **({} if imitate else {"imitate_features": 1.0})}
    recipe = recipe_of(features, augment=AugmentRecipe(sizes=[1, 1.5]))
    teacher = replace(recipe.teachers["drawn"], **({"views": ["identity"], "mirror": True} if mirror else {}))
    recipe = replace(
        recipe, teachers={"drawn": teacher, "other": replace(teacher, weight=2.0)}, imitate=ImitateRecipe(**imitate),
        stages={"joint": StageRecipe(steps=1, losses=losses)},
    )  # fmt: skip
    caches = open_caches(run_of(recipe, tmp_path))
    targets = plan_targets(recipe, caches, create_student(recipe, caches))
    for side in recipe.sides:
        indices = [(epoch, number, side) for epoch in range(3) for number in range(8)]
        loaded, decoded, _ = both_ways(recipe, caches, targets, indices)
        require_equal(loaded, decoded)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_soft_mask_is_decoded_to_its_logits(tmp_path, classes):
    samples = disc_splits().train
    entry = cache.MapSpec(MASK, classes, (32, 32), 1)
    maps = torch.nn.functional.interpolate(torch.randn(8, classes, 4, 4), (32, 32), mode="bicubic")
    write_cache(tmp_path / "masks", {entry: maps}, keys=[sample.key for sample in samples])
    recipe = replace(
        recipe_of(), augment=AugmentRecipe(views=["identity"]),
        teachers={"drawn": TeacherRecipe(weights="drawn", cache=str(tmp_path / "masks"), views=["identity"])},
    )  # fmt: skip
    caches = {"drawn": cache.open(tmp_path / "masks")}
    target = Target("drawn", MASK, "mask", 1, (32, 32), classes, 1.0)
    loaded, decoded, _ = both_ways(recipe, caches, (target,), [(0, number) for number in range(8)])
    require_equal(loaded, decoded)
    assert decoded["drawn/mask/mask/1"].shape[1:] == ((32, 32) if classes == 1 else (classes, 32, 32))


def test_coefficients_are_restored_bit_for_bit_also_where_they_are_large():
    maps = natural_maps(12, seed=0)
    codec = cache.fit(maps, fidelity=0.95)
    codes = [*codec.encode_batch(maps), codec.encode(100 * maps[0])]
    assert {codec.read_integers(code)["low"].dtype for code in codes} == {np.dtype("i1"), np.dtype("i4")}
    for band in ("low", "high", "all"):
        integers = [codec.read_integers(code, band) for code in codes]
        batch = {name: torch.stack([torch.tensor(one[name]).int() for one in integers]) for name in integers[0]}
        expected = torch.stack([codec.coefficients(code, band) for code in codes])
        assert torch.equal(codec.restore(batch), expected)


@pytest.mark.parametrize("bands", ["cosine", "fourier"])
def test_codes_with_axes_for_each_shell_are_decoded_the_same(tmp_path, bands):
    samples = disc_splits().train
    entry = cache.MapSpec("neck", 6, (14, 18), 4)
    maps = natural_maps(8, 0, channels=6, grid=(14, 18))
    write_cache(tmp_path / "shells", {entry: maps}, keys=[sample.key for sample in samples], shells=True)
    recipe = replace(
        recipe_of(), augment=AugmentRecipe(views=["identity"]), imitate=ImitateRecipe(bands=bands),
        teachers={"drawn": TeacherRecipe(weights="drawn", cache=str(tmp_path / "shells"), views=["identity"])},
        stages={"joint": StageRecipe(steps=1, losses={"segment": 1.0, "imitate_low": 1.0, "imitate_high": 1.0})},
    )  # fmt: skip
    caches = {"drawn": cache.open(tmp_path / "shells")}
    assert caches["drawn"].codecs["neck"].shells
    targets = plan_targets(recipe, caches, create_student(recipe, caches))
    loaded, decoded, _ = both_ways(recipe, caches, targets, [(0, number) for number in range(8)])
    require_equal(loaded, decoded)
    for target in targets:  # and of the deviation by which losses are scaled
        assert loaded[target.name].square().mean().sqrt().item() == pytest.approx(target.deviation, rel=0.5)


def test_a_batch_of_codes_is_a_fraction_of_a_batch_of_features(tmp_path):
    samples = disc_splits().train
    write_cache(tmp_path / "large", {LARGE: drawn_maps(8, LARGE)}, keys=[sample.key for sample in samples])
    caches = {"drawn": cache.open(tmp_path / "large")}
    recipe = replace(
        recipe_of(), image_size=352, augment=AugmentRecipe(views=["identity"]),
        teachers={"drawn": TeacherRecipe(weights="drawn", cache=str(tmp_path / "large"), views=["identity"])},
        stages={"joint": StageRecipe(steps=1, losses={"imitate_low": 1.0, "imitate_high": 1.0})},
    )  # fmt: skip
    targets = plan_targets(recipe, caches, create_student(recipe, caches))
    loaded, decoded, delivered = both_ways(recipe, caches, targets, [(0, number) for number in range(2)])
    require_equal(loaded, decoded)
    wanted, given = (
        sum(tensor.nbytes for name, tensor in batch.items() if name not in ("image", "mask"))
        for batch in (loaded, delivered)
    )
    assert given < wanted / 8


def test_a_training_whose_targets_the_device_decodes_has_the_losses_of_another(features, tmp_path, monkeypatch):
    recipe = recipe_of(features)
    delivered, logs = [], []

    class OnDevice(TrainingSet):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **{**options, "on_device": on_device})

    def decode(*given):
        delivered.append(given)
        return decode_targets(*given)

    monkeypatch.setattr(training_state, "TrainingSet", OnDevice)
    monkeypatch.setattr("distill.training.train.decode_targets", decode)
    for on_device in (False, True):
        run = run_of(recipe, tmp_path / str(on_device))
        train(run)
        logs.append([one for one in read_log(run.folder / "log.jsonl") if "loss" in one])
    assert len(delivered) == max(one["step"] for one in logs[1]) > 1
    for one, other in zip(*logs, strict=True):
        terms = [name for name in one if name.startswith(("loss", "imitate", "segment"))]
        assert [other[name] for name in terms] == pytest.approx([one[name] for name in terms], rel=1e-2)
        for name, spread in one["spread"].items():  # of the targets themselves, whatever rounding made of the weights
            assert other["spread"][name]["target_variance"] == pytest.approx(spread["target_variance"], rel=1e-6)
