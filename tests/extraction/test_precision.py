"""A teacher's precision: in a cache's identity where it is not float32, and never past half precision's range."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from small_extraction import CellTeacher, content, extraction_job

import cache
from distill.config.schema import TeacherRecipe
from distill.extraction import calibrate
from distill.extraction.extract import extract
from distill.extraction.teacher_inference import rounded_to_half
from distill.runs.fingerprint import fingerprint_features

EXTRACTING = sys.modules["distill.extraction.extract"]


def digest_of(**changes) -> str:
    teacher = TeacherRecipe(adapter="timm", weights="hub/x", model="resnet", **changes)
    return fingerprint_features(teacher, fidelity=0.8, calibration=["a"])


def test_a_cache_keeps_its_name_unless_the_precision_is_another():
    known = "a5e59f8c8a00aa8dad5db795f43d68581f207b4eda5602e7241133bd8ff6857e"  # from before there was the key
    assert digest_of() == digest_of(precision="fp32") == known
    assert digest_of(precision="bf16") != known


def test_precisions_that_a_teacher_cannot_have_are_refused():
    with pytest.raises(ValueError, match=r"precision is 'fp16', but must be one of fp32, bf16"):
        TeacherRecipe(precision="fp16")
    for changes in ({"adapter": "task", "of": "sam"}, {"adapter": "sam", "prompts": "boxes"}):
        with pytest.raises(ValueError, match=r"precision is bf16, but a task teacher reads a cache, and coordinates"):
            TeacherRecipe(precision="bf16", **changes)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_extraction_computes_in_the_precision_asked_for(tmp_path, monkeypatch, precision, dtype):
    asked = []

    class Asked(CellTeacher):
        def to(self, device, dtype=None):
            asked.append(dtype)
            return self

    monkeypatch.setattr(EXTRACTING, "load_teacher", lambda *_: Asked())
    run = extraction_job(tmp_path)
    entry = replace(run.recipe.teachers["cells"], precision=precision)
    extract(replace(run, recipe=replace(run.recipe, teachers={"cells": entry})))
    assert set(asked) == {dtype}


def test_maps_beyond_half_precision_are_kept_and_the_others_rounded():
    maps = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rounded_to_half(maps), maps.half())
    assert rounded_to_half(maps).dtype == torch.float16
    maps[1] *= 1e6
    found = rounded_to_half(maps)
    assert torch.equal(found[1], maps[1])
    assert torch.equal(found[[0, 2]], maps[[0, 2]].half().float())


def test_a_teacher_beyond_half_precision_is_calibrated_and_a_killed_extraction_ends_bit_identical(
    tmp_path, monkeypatch
):
    class Loud(CellTeacher):
        def forward(self, pixels, valid):
            return {name: 1e6 * maps for name, maps in super().forward(pixels, valid).items()}

    monkeypatch.setattr(EXTRACTING, "load_teacher", lambda *_: Loud())
    whole, killed = extraction_job(tmp_path / "whole"), extraction_job(tmp_path / "killed")
    extract(whole)
    store = cache.open(whole.caches["cells"])
    key, view = min(store)
    assert store.codecs["neck"].decode(store.read(key, view, map="neck")).isfinite().all()
    assert float(store.codecs["neck"].scale.max()) > 65504
    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "write_coded", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(killed)
    extract(killed)
    assert content(killed.caches["cells"]) == content(whole.caches["cells"])
