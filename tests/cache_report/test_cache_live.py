"""A cache against the live teacher: what mirroring and cropping cost, and bytes against cosine."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from small_run import disc_splits, recipe_of, run_of

import cache
from cache.spec import FeatureSpec, MapSpec
from distill.cache_report.rate_distortion import rates
from distill.cache_report.teacher_agreement import BANDS, agreements, cut, extract_maps, held_out, split
from distill.cli.cache import COMMAND
from distill.config.schema import TeacherRecipe
from distill.runtime.resize import resize

cache_command = COMMAND

CHANNELS, GRID = 5, (8, 8)
IDENTITY = {"teacher": "pooled", "weights": "0" * 64}


class PooledTeacher:
    """Mean colours of cells, mixed: it commutes with mirrors, unless it is told to lean to the left."""

    identity = IDENTITY

    def __init__(self, lean=0.0):
        self.mixing = torch.randn(CHANNELS, 4, generator=torch.Generator().manual_seed(0))
        self.lean = lean

    def to(self, device, dtype=None):
        return self

    def __call__(self, images):
        cells = torch.cat([resize(torch.from_numpy(image).permute(2, 0, 1)[None] / 255.0, GRID) for image in images])
        slope = self.lean * torch.linspace(-1, 1, GRID[1]).expand(len(cells), 1, *GRID)
        return {"neck": torch.einsum("ck,nkhw->nchw", self.mixing, torch.cat([cells, slope], 1))}


SPLITS = disc_splits()
SAMPLES = list(SPLITS.val)


def make(folder, teacher):
    images = [sample.read_image() for sample in SPLITS.train]
    maps = extract_maps(teacher, images + [image[:, ::-1].copy() for image in images], size=3)["neck"]
    store = cache.create(
        folder,
        spec=FeatureSpec((MapSpec("neck", CHANNELS, GRID, 8),)),
        codecs={"neck": cache.fit(maps, fidelity=0.97)},
        identity=IDENTITY,
        licence="Apache-2.0",
        fidelity=0.97,
        batch_size=2,
        views=("identity",),
        calibration=[sample.key for sample in SPLITS.train],
    )
    codes = [(s.key, "identity", {"neck": store.codecs["neck"].encode(maps[i])}) for i, s in enumerate(SPLITS.train)]
    cache.write_shard(store, codes, fidelity={"neck": 0.97})
    return cache.open(folder)


@pytest.fixture
def store(tmp_path):
    return make(tmp_path / "pooled-0123", PooledTeacher())


def by_case(found):
    return {(entry.case, entry.band): entry for entry in found}


def test_a_teacher_that_commutes_with_mirrors_loses_nothing_by_mirroring(store):
    found, (reference,) = agreements(store, PooledTeacher(), SAMPLES, size=2)
    cases = by_case(found)
    assert set(cases) == {(case, band) for case in ("cached view", "mirrored", "crop") for band in BANDS}
    for band in BANDS:
        assert cases["cached view", band].without == pytest.approx(1)
        assert cases["mirrored", band].without == pytest.approx(1, abs=1e-4)
        assert cases["mirrored", band].cosine == pytest.approx(cases["cached view", band].cosine, abs=1e-4)
        assert cases["mirrored", band].error == pytest.approx(cases["cached view", band].error, abs=1e-3)
    assert cases["cached view", "all"].cosine > 0.9
    assert cases["cached view", "low"].cosine > cases["cached view", "high"].cosine
    assert cases["crop", "low"].without > 0.7
    assert reference.code > reference.reference > 0


def test_a_teacher_that_leans_shows_what_mirroring_would_have_cost(tmp_path):
    teacher = PooledTeacher(lean=3.0)
    cases = by_case(agreements(make(tmp_path / "leaning", teacher), teacher, SAMPLES, size=2)[0])
    assert cases["mirrored", "all"].cosine < cases["cached view", "all"].cosine - 0.2
    assert cases["mirrored", "all"].without < 0.8
    assert cases["mirrored", "all"].error > 2 * cases["cached view", "all"].error


def test_the_caches_own_code_is_taken_where_it_holds_the_image(store):
    train = [sample for sample in SPLITS.train if (sample.key, "identity") in store][:2]
    mirrored = [replace(sample, read_image=SAMPLES[0].read_image) for sample in train]  # not what was cached
    assert by_case(agreements(store, PooledTeacher(), train, size=2)[0])["cached view", "all"].cosine > 0.9
    assert by_case(agreements(store, PooledTeacher(), mirrored, size=2)[0])["cached view", "all"].cosine < 0.9


def test_another_teacher_is_refused(store):
    other = PooledTeacher()
    other.identity = {**IDENTITY, "weights": "f" * 64}
    with pytest.raises(ValueError, match=r"was written with weights=.*, but weights=.* is requested"):
        agreements(store, other, SAMPLES, size=2)


def test_a_crop_is_cut_at_whole_pixels_and_its_box_says_so():
    image = np.arange(41 * 57 * 3, dtype=np.int64).reshape(41, 57, 3).astype(np.uint8)
    crop, (y0, x0, y1, x1) = cut(image)
    assert np.array_equal(crop, image[round(y0 * 41) : round(y1 * 41), round(x0 * 57) : round(x1 * 57)])
    assert crop.shape == (26, 36, 3)


def test_the_bands_of_a_map_add_up_and_do_not_overlap():
    maps = torch.randn(3, 8, 9, generator=torch.Generator().manual_seed(0))
    bands = split(maps, 2)
    torch.testing.assert_close(bands["low"] + bands["high"], bands["all"])
    assert float((bands["low"] * bands["high"]).sum()) == pytest.approx(0, abs=1e-4)


def test_the_code_needs_fewer_bytes_than_every_simpler_way_at_its_cosine(store):
    teacher = PooledTeacher()
    training = extract_maps(teacher, [sample.read_image() for sample in SPLITS.train], size=4)["neck"]
    shown = extract_maps(teacher, [sample.read_image() for sample in SAMPLES], size=4)["neck"]
    found = rates("neck", store.codecs["neck"], training, shown)
    assert {rate.way for rate in found} == {"fp32", "fp16", "code", "integers", "PCA only", "DCT only"}
    sizes = {rate.way: rate.bytes for rate in found if rate.way.startswith("fp")}
    assert sizes == {"fp32": 4 * shown[0].numel(), "fp16": 2 * shown[0].numel()}
    eight = next(rate for rate in found if rate.setting == "8 bits")
    assert eight.cosine > 0.999 and eight.bytes == shown[0].numel()
    best = max((rate for rate in found if rate.way == "code"), key=lambda rate: rate.cosine)
    for rate in found:
        assert rate.way == "code" or rate.cosine < best.cosine or rate.bytes > best.bytes


def test_held_out_images_are_spread_and_never_those_of_the_calibration(store, tmp_path):
    run = run_of(recipe_of(), tmp_path / "run")
    assert held_out(run, store, 9) == sorted(SPLITS.val, key=lambda sample: sample.key)
    all_known = replace(run, splits=replace(SPLITS, val=SPLITS.train))
    with pytest.raises(ValueError, match="the codecs were fitted on all validation images"):
        held_out(all_known, store, 9)


def test_verify_with_a_recipe_names_the_records_that_are_missing(store, tmp_path, monkeypatch, capsys):
    teacher = TeacherRecipe(adapter="pooled", weights="w", cache=str(store.path), views=["identity"])
    recipe = replace(recipe_of(), teachers={"p": teacher})
    monkeypatch.setattr("distill.config.parse.read_recipe", lambda words: recipe)
    monkeypatch.setattr("distill.runs.open_run.open_run", lambda _: run_of(recipe, tmp_path / "run"))
    assert cache_command(["do=verify", f"cache={store.path}", "recipe=any"], dry=False) == 1
    said = capsys.readouterr().out
    assert said.startswith("(no file): 2 records are missing; to extract again: ")  # the gallery's
    assert all(sample.key in said for sample in SPLITS.val)


def test_the_command_with_a_recipe_reports_the_live_teacher(store, tmp_path, monkeypatch, capsys):
    recipe = replace(recipe_of(), teachers={"p": TeacherRecipe(adapter="timm", weights="w", cache=str(store.path))})
    run = run_of(recipe, tmp_path / "run")
    monkeypatch.setattr("distill.config.parse.read_recipe", lambda words: recipe)
    monkeypatch.setattr("distill.runs.open_run.open_run", lambda _: run)
    monkeypatch.setattr(
        import_module("distill.extraction.teacher_inference"), "load_teacher", lambda *_: PooledTeacher()
    )
    words = [f"cache={store.path}", f"out={tmp_path / 'out'}", "images=2", "recipe=any"]
    with pytest.raises(ValueError, match=r"was made by a 'pooled' teacher, but the recipe's teachers are p \(timm\)"):
        cache_command(words, dry=False)
    object.__setattr__(recipe.teachers["p"], "adapter", "pooled")
    assert cache_command(words, dry=False) == 0
    said = capsys.readouterr().out
    assert "## Against the live teacher, 2 held-out images" in said and "## Bytes against cosine" in said
    assert (tmp_path / "out" / "rates.png").read_bytes().startswith(b"\x89PNG")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert data["held_out_images"] == 2 and len(data["agreements"]) == 9 and data["rates"][0]["way"] == "fp32"
    assert "![rates](rates.png)" in (tmp_path / "out" / "report.md").read_text()
