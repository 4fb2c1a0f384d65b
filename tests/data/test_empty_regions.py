"""Regions without an object, by which validation counts false alarms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_run import disc_splits, recipe_of, run_of

from distill.config.schema import EvaluateRecipe
from distill.data.empty_regions import empty_regions
from distill.evaluation.scoring import score, validate


def test_a_region_is_the_part_of_its_image_where_the_mask_is_empty():
    samples = disc_splits().train
    regions = empty_regions(samples)
    assert 0 < len(regions) <= len(samples)
    assert [region.key for region in regions] == [region.key for region in empty_regions(samples)]
    assert not {region.key for region in regions} & {sample.key for sample in samples}
    whole = {f"{sample.stem} (empty region)": sample for sample in samples}
    for region in regions:
        image, mask = region.read_image(), region.read_mask()
        assert image.shape[:2] == mask.shape == region.size and not mask.any()
        windows = np.lib.stride_tricks.sliding_window_view(whole[region.stem].read_image(), image.shape)
        assert (windows == image).all(axis=(-3, -2, -1)).any()


def test_a_student_that_finds_an_object_everywhere_scores_lower_on_validation(tmp_path, monkeypatch):
    run = run_of(recipe_of(), tmp_path)
    run = replace(run, splits=replace(run.splits, val=run.splits.train))
    strict = replace(run, recipe=replace(run.recipe, evaluate=EvaluateRecipe(empty_regions=True)))
    regions = len(strict.validation) - len(run.validation)
    assert regions > 0 and run.validation == run.splits.val

    def everywhere(sample):
        return np.ones((1, *sample.size), dtype=np.float32)

    monkeypatch.setattr("distill.evaluation.scoring.predictor_of", lambda *_: everywhere)
    dice, lower = (validate(_Nothing(), one)["dice"] for one in (run, strict))
    assert lower == pytest.approx(dice * len(run.validation) / len(strict.validation))
    assert all(one.dice == 0 for one in score(everywhere, strict.validation[-regions:], shown=False))


class _Nothing:
    training = False

    def modules(self):
        return []

    def eval(self):
        return self
