"""The prompts that SAM gets for each image, the key of its answer, and that it teaches a student."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_run import disc_splits, recipe_of, run_of
from small_teachers import small_sam

import cache
from cache.spec import MASK, VIEWS, flip
from distill.config.schema import CacheRecipe, StageRecipe, TeacherRecipe
from distill.data.prompts import boxes_of, flip_boxes, grid_of, jittered, policy_of, prompt_of, record_key
from distill.data.sources.unlabelled import unlabel
from distill.extraction.extract import extract
from distill.extraction.plan import plan_extraction
from distill.extraction.teacher_inference import Batch, FeatureExtractor
from distill.runs.caches import open_caches
from distill.training.train import train

BOXES = TeacherRecipe(adapter="sam", weights="x", prompts="boxes", points=4)
SAMPLE = disc_splits().train[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam") / "weights"
    small_sam().save_pretrained(folder)
    return str(folder)


def asked_job(weights, folder, **changes):
    """A run whose teacher is asked for soft masks, on half of the training images with, and half without a mask."""
    teacher = replace(BOXES, weights=weights, views=["identity", "hflip"], batch_size=4)
    recipe = replace(
        recipe_of(),
        teachers={"sam": replace(teacher, **changes)},
        cache=CacheRecipe(fidelity=0.6, calibration=8),
        augment=replace(recipe_of().augment, views=["identity", "hflip"]),
        stages={"semantic": StageRecipe(epochs=1, losses={"segment": 1.0, "imitate_mask": 1.0})},
    )
    run = run_of(recipe, folder / "run")
    part = run.splits.train
    return replace(run, splits=replace(run.splits, train=part[:4], unlabelled=tuple(map(unlabel, part[4:]))))


def test_boxes_are_those_of_the_components_and_specks_are_left_out():
    mask = np.zeros((100, 200), np.uint8)
    mask[10:30, 20:60] = mask[50:90, 100:180] = 1
    mask[70, 30] = 1
    assert np.allclose(boxes_of(mask), [[0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.9, 0.9]])
    assert boxes_of(np.zeros((5, 5), np.uint8)).shape == (0, 4)
    alone = np.zeros((200, 200), np.uint8)
    alone[3, 7] = 1
    assert len(boxes_of(alone)) == 1, "a speck that is all there is"


def test_jitter_hangs_on_the_image_alone_and_stays_within_its_share():
    boxes = np.array([[0.2, 0.3, 0.6, 0.5]])
    once, again, other = (jittered(boxes, 0.1, key=key) for key in ("a" * 64, "a" * 64, "b" * 64))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert (np.abs(once - boxes) <= 0.1 * np.array([0.4, 0.2, 0.4, 0.2])).all()
    assert np.array_equal(jittered(boxes, 0, key="c"), boxes)


@pytest.mark.parametrize("view", VIEWS)
def test_a_prompt_lies_in_a_view_where_its_thing_lies(view):
    plain = replace(BOXES, jitter=0.0)
    seen = boxes_of(flip(SAMPLE.read_mask(), view, axes=(0, 1)))
    assert np.allclose(prompt_of(plain, SAMPLE, view), seen)
    assert np.allclose(flip_boxes(prompt_of(BOXES, SAMPLE, "identity"), view), prompt_of(BOXES, SAMPLE, view))
    assert np.allclose(np.sort(flip(grid_of(4), "identity"), 0), np.sort(1 - grid_of(4), 0)), "the grid has no side"


def test_an_image_without_a_mask_is_asked_with_the_grid():
    assert prompt_of(BOXES, unlabel(SAMPLE), "identity").shape == (16, 2)
    assert prompt_of(replace(BOXES, prompts="grid"), SAMPLE, "identity").shape == (16, 2)
    assert prompt_of(BOXES, SAMPLE, "identity").shape == (1, 4)


def test_the_prompt_is_part_of_the_record_s_key():
    keys = [
        record_key(recipe, sample)
        for recipe, sample in (
            (TeacherRecipe(), SAMPLE),
            (BOXES, SAMPLE),
            (BOXES, unlabel(SAMPLE)),
            (replace(BOXES, jitter=0.2), SAMPLE),
            (replace(BOXES, points=8), unlabel(SAMPLE)),
            (BOXES, replace(SAMPLE, mask_key="e" * 64)),
        )
    ]
    assert keys[0] == SAMPLE.key
    assert len(set(keys)) == len(keys)
    assert record_key(BOXES, replace(SAMPLE, stem="renamed", dataset="other")) == keys[1]


def test_no_held_out_image_is_asked_with_its_own_mask(weights, tmp_path):
    run = asked_job(weights, tmp_path)
    plan = plan_extraction(run, "sam")
    wanted, samples = plan.records, plan.read.args[1]
    assert len(wanted) == 8 * 2 + 2
    held_out = {sample.key for part in (run.splits.val, *run.splits.test.values()) for sample in part}
    seen = [samples[key] for key, _ in wanted]
    assert all(sample.mask_key == "" for sample in seen if sample.key in held_out)
    assert sum(bool(sample.mask_key) for sample in seen) == 4 * 2


def test_sam_s_soft_masks_are_kept_and_teach_a_student(weights, tmp_path, caplog):
    run = asked_job(weights, tmp_path)
    with caplog.at_level(logging.INFO, logger="bandpass"):
        assert extract(run)["sam"] == 8 * 2 + 2
    assert "sam: 10 images in up to 2 views, 18 records to extract" in caplog.text
    assert "on this machine" in caplog.text
    assert "4 training images without a mask are prompted with a grid of points" in caplog.text
    store = cache.open(run.caches["sam"])
    assert store.spec.names == ("neck", MASK)
    assert store.manifest.terms == {"left": "Apache-2.0"}
    assert store.identity["prompts"].startswith(policy_of(run.recipe.teachers["sam"]))
    labelled = run.splits.train[0]
    assert (labelled.key, "identity") not in store
    assert (record_key(run.recipe.teachers["sam"], labelled), "identity") in store
    summary = train(run)
    assert summary["targets"] == ["sam/mask/mask/1"]
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["imitate_mask"]) for line in lines if "loss" in line)
    more = replace(run, splits=replace(run.splits, train=run.splits.train[:2], unlabelled=run.splits.train[2:4]))
    assert open_caches(run)
    masked_away = replace(more, splits=replace(more.splits, unlabelled=tuple(map(unlabel, more.splits.unlabelled))))
    with pytest.raises(FileNotFoundError, match="lacks 4 of 8 records"):
        open_caches(masked_away)
    other = replace(run.recipe.teachers["sam"], jitter=0.3)
    with pytest.raises(ValueError, match=r"was extracted with prompts .*, but the recipe has .*jitter=0\.3"):
        open_caches(replace(run, recipe=replace(run.recipe, teachers={"sam": other})))


def test_what_cannot_be_prompted_is_refused():
    with pytest.raises(ValueError, match="teacher timm takes no prompts, only sam does"):
        TeacherRecipe(adapter="timm", prompts="boxes")
    with pytest.raises(ValueError, match=r"teachers\.NAME\.prompts is 'box', but must be one of boxes, grid"):
        TeacherRecipe(prompts="box")
    with pytest.raises(ValueError, match=r"or prompts\); .*or prompt SAM with teachers\.NAME\.prompts=boxes"):
        stages = {"one": StageRecipe(losses={"segment": 1.0, "imitate_mask": 1.0})}
        replace(recipe_of(), teachers={"sam": TeacherRecipe(weights="x")}, stages=stages)
    with pytest.raises(ValueError, match=r"teachers\.sam\.prompts is set, but a task decoder reads features"):
        task = TeacherRecipe(adapter="task", of="sam", weights="x")
        replace(recipe_of(), teachers={"sam": BOXES, "masks": task}, stages=stages)


class NarrowTeacher:
    """Looks at no more than so many images at once."""

    device = "cpu"

    def __init__(self, room: int) -> None:
        self.room, self.seen = room, []

    def forward(self, pixels, valid):
        self.seen.append(len(pixels))
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return {"map": pixels[:, :1] * valid[:, :1, None, None]}


def batch_of(count):
    return Batch([("k", "identity")] * count, torch.randn(count, 3, 4, 4), torch.ones(count, 2), None)


def test_a_batch_is_halved_once_where_memory_runs_out(caplog):
    teacher = NarrowTeacher(room=3)
    extractor = FeatureExtractor(teacher, size=8)
    for _ in range(2):
        batch = batch_of(8)
        with caplog.at_level(logging.WARNING, logger="bandpass"):
            assert torch.equal(extractor(batch)["map"], batch.pixels[:, :1])
    assert teacher.seen == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert extractor.size == 2
    assert caplog.text.count("out of memory") == 2
    with pytest.raises(ValueError, match="the teacher and one image do not fit into the memory of cpu"):
        FeatureExtractor(NarrowTeacher(room=0), size=2)(batch_of(2))


def test_the_size_that_memory_allowed_is_recorded_with_the_cache(weights, tmp_path, monkeypatch):
    from teachers.sam import SamTeacher

    run = asked_job(weights, tmp_path)
    forward = SamTeacher.forward

    def narrow(self, pixels, valid, prompts=None):
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, pixels, valid, prompts)

    monkeypatch.setattr(SamTeacher, "forward", narrow)
    extract(run)
    assert cache.open(run.caches["sam"]).batch_size == 2
