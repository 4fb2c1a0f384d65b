"""`cache.shells`: another cache of the same teacher, whose codes are of format 2, masks excepted."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import torch
from small_extraction import CellTeacher, extraction_job

import cache
from cache.manifest import Manifest
from cache.spec import MASK
from distill.config.parse import read_recipe
from distill.extraction.calibrate import fit_codecs
from distill.extraction.extract import extract
from distill.runs.paths import name_caches


def test_an_extraction_with_shells_writes_codes_of_format_2(tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("distill.extraction.extract"), "load_teacher", lambda *_: CellTeacher())
    sizes = []
    for shells in (False, True):
        run = extraction_job(tmp_path / str(shells))
        run = replace(run, recipe=replace(run.recipe, cache=replace(run.recipe.cache, shells=shells)))
        extract(run)
        store = cache.open(run.caches["cells"])
        assert (
            (Manifest.read(store.path).version == 2) == shells == all(bool(one.shells) for one in store.codecs.values())
        )
        assert not cache.verify(store.path) and len(store) == 42
        sizes.append(store.nbytes)
        assert extract(run) == {"cells": 0}


def test_a_soft_mask_is_coded_as_before():
    maps = torch.randn(12, 1, 8, 8).cumsum(-1).cumsum(-2)
    codecs = fit_codecs(
        {"neck": [maps.repeat(1, 3, 1, 1) + torch.randn(12, 3, 8, 8)], MASK: [maps]}, fidelity=0.9, shells=True
    )
    assert codecs["neck"].shells and codecs[MASK].shells is None


def test_the_cache_has_another_name_and_an_old_one_keeps_its_own(tmp_path):
    names = []
    for words in ([], ["cache.shells=false"], ["cache.shells=true"]):
        recipe = read_recipe(["recipe=sam_to_unet", *words])
        names.append(name_caches(recipe, {"sam": ["a"]}, home=tmp_path, made={})["sam"].content)
    assert names[0] == names[1] != names[2]
