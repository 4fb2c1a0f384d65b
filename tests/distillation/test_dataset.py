"""Worker processes: enough shared memory is asked for before they start, and nobody waits for them for ever."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_run import disc_sample, disc_splits, recipe_of

from distill.config.schema import AugmentRecipe
from distill.distillation import loading, shared_memory
from distill.distillation.dataset import TrainingSet
from distill.distillation.loading import bytes_of_batch, loader
from distill.distillation.sampler import Batches, permutation
from distill.runtime.threads import own_cores, usable_cores


def small_batches(**changes):
    return Batches(**{"images": 8, "batch": 4, "seed": 0, "start": 0, "stop": 3, "rank": 0, "ranks": 1, **changes})


def has_shared_memory(monkeypatch, free, total):
    blocks = SimpleNamespace(f_frsize=1, f_bavail=free, f_blocks=total)
    monkeypatch.setattr(shared_memory.os, "statvfs", lambda _: blocks)


def test_too_little_shared_memory_is_told_before_any_worker_starts(monkeypatch):
    has_shared_memory(monkeypatch, 500_000, 64_000_000)
    monkeypatch.setattr(loading, "DataLoader", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(ValueError, match=r"workers=4 hold up to 18 batches of 0\.2 MB .*--shm-size=1g .*workers=0"):
        loader(TrainingSet(disc_splits().train, recipe_of(), {}), small_batches(), workers=4)


def test_processes_of_a_machine_share_its_memory_and_cores(monkeypatch):
    batch = 1_000_000
    has_shared_memory(monkeypatch, 20 * batch, 30 * batch)
    shared_memory.check_shared_memory(batch, workers=4, ahead=4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="in each of 2 processes"):
        shared_memory.check_shared_memory(batch, workers=4, ahead=4)
    assert own_cores() == max(1, usable_cores() // 2)


def test_images_are_kept_in_memory_up_to_a_process_share(monkeypatch):
    splits, recipe = disc_splits(), recipe_of()
    pixels = sum(height * width for height, width in (sample.size for sample in splits.train))
    object.__setattr__(recipe.data, "memory_gb", 4 * pixels / 1e9)
    for processes, kept in (("1", len(splits.train)), ("2", 0)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        dataset = TrainingSet(splits.train, recipe, {})
        dataset.keep_in_memory()
        assert len(dataset.kept) == kept


def test_the_bytes_of_a_batch_are_those_of_its_largest_side():
    dataset = TrainingSet(disc_splits().train, recipe_of(), {})
    for sides, side in (((), 64), ((32, 96), 96)):
        batches = small_batches(sides=sides)
        assert bytes_of_batch(dataset, batches) == 4 * side * side * (3 * 4 + 1)
    assert bytes_of_batch(dataset, small_batches(stop=0)) == 0


def test_workers_load_the_batches_of_the_training_process():
    dataset = TrainingSet(disc_splits().train, recipe_of(), {})
    for ours, theirs in zip(*(loader(dataset, small_batches(), workers=n) for n in (0, 2)), strict=True):
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


class Silent(TrainingSet):
    def __getitem__(self, index):
        if os.getpid() != PARENT:
            time.sleep(60)
        return super().__getitem__(index)


PARENT = os.getpid()


def test_workers_that_are_silent_end_the_run_with_a_sentence(monkeypatch):
    for module in (loading, shared_memory):
        monkeypatch.setattr(module, "SILENT_SECONDS", 1)
    batches = loader(Silent(disc_splits().train, recipe_of(), {}), small_batches(), workers=1)
    with pytest.raises(RuntimeError, match=r"no batch has come from 1 workers for 1 s.*--shm-size.*workers=0"):
        next(batches)


def test_an_epoch_is_drawn_once_and_is_what_its_seed_says():
    permutation.cache_clear()
    batches = list(small_batches(images=1000, batch=10, stop=250))
    assert permutation.cache_info().misses == 3
    order = np.concatenate([np.random.default_rng([0, epoch]).permutation(1000) for epoch in range(3)])
    assert [index for batch in batches for _, index in batch] == order[:2500].tolist()


def test_a_share_of_labelled_images_is_shown_without_their_object():
    def foreground(**augment):
        recipe = recipe_of(augment=AugmentRecipe(min_crop=1.0, **augment))
        dataset = TrainingSet(disc_splits().train, recipe, {})
        return [bool(dataset[epoch, number]["mask"].any()) for epoch in range(20) for number in range(len(dataset))]

    assert all(foreground())
    shares = {share: 1 - np.mean(foreground(empty=share)) for share in (0.5, 1.0)}
    assert 0.25 * shares[1.0] < shares[0.5] < 0.75 * shares[1.0]
    assert shares[1.0] > 0.1


def test_objects_are_covered_as_often_as_what_lies_beside_them():
    def shown(**augment):
        recipe = recipe_of(augment=AugmentRecipe(min_crop=1.0, views=["identity"], colour=0, **augment))
        dataset = TrainingSet([disc_sample("left", seed, (40, 56)) for seed in range(8)], recipe, {})
        return [dataset[epoch, number] for epoch in range(20) for number in range(len(dataset))]

    plain, changed = shown(), shown(erase=0.5)
    pairs = list(zip(plain, changed, strict=True))
    emptied = [not new["mask"].any() for _, new in pairs]
    beside = [new["mask"].any() and not old["image"].equal(new["image"]) for old, new in pairs]
    assert 0.05 < np.mean(emptied) < 0.5 and 0.05 < np.mean(beside) < 0.5
    for (old, new), empty in zip(pairs, emptied, strict=True):
        assert empty or old["mask"].equal(new["mask"])
        assert not (empty and old["image"].equal(new["image"]))
