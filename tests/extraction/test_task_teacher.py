"""A task teacher: trained on a cache, published, and heard through a cache of soft masks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_run import VIEWS, recipe_of, run_of

import cache
from cache.spec import MASK, flip
from distill.config.parse import read_recipe
from distill.config.schema import OptimiserRecipe, StageRecipe, StudentRecipe, TeacherRecipe
from distill.data.sources.unlabelled import unlabel
from distill.distillation import losses
from distill.distillation.targets import check_mask, plan_targets
from distill.evaluation.evaluate import evaluate
from distill.extraction.extract import extract
from distill.extraction.plan import plan_extraction
from distill.extraction.task_teacher import FIDELITY, TaskTeacher
from distill.publishing.publish import publish
from distill.run import main
from distill.runs.build import create_student
from distill.runs.caches import open_caches
from distill.training.train import train
from students.config import read_config


@pytest.fixture(scope="module")
def task_run(features, tmp_path_factory):
    """A decoder trained on the drawn features, evaluated and published."""
    recipe = replace(
        recipe_of(features),
        image_size=48,
        student=StudentRecipe(name="task_decoder", width=8),
        optimiser=OptimiserRecipe(batch_size=4, learning_rate=1e-2, ema=0.5),
        stages={"semantic": StageRecipe(steps=30, losses={"segment": 1.0})},
    )
    run = run_of(recipe, tmp_path_factory.mktemp("task") / "run")
    train(run), evaluate(run), publish(run)
    return run


def distilled_recipe(features, task_run, **changes):
    recipe = recipe_of(features)
    masks = TeacherRecipe(adapter="task", of="drawn", weights=str(task_run.published))
    stages = {"semantic": StageRecipe(epochs=2, losses={"segment": 1.0, "imitate_mask": 1.0})}
    return replace(recipe, teachers={**recipe.teachers, "masks": masks}, stages=stages, **changes)


@pytest.fixture(scope="module")
def distilled_run(features, task_run, tmp_path_factory):
    """A student's run with the masks extracted."""
    run = run_of(distilled_recipe(features, task_run), tmp_path_factory.mktemp("distilled") / "run")
    assert extract(run) == {"drawn": 0, "masks": 0}, "no image goes through a teacher"
    return run


def test_a_decoder_learns_the_task_from_the_cache_alone(task_run):
    scores = json.loads((task_run.folder / "metrics.json").read_text())["datasets"]
    assert all(figures["dice"]["mean"] > 0.6 for figures in scores.values()), scores
    assert (task_run.published / "README.md").read_text().startswith("# Task teacher")


def test_a_published_decoder_says_what_it_reads_and_whose_masks_it_saw(task_run, features):
    facts = json.loads((task_run.published / "task.json").read_text())
    assert facts["reads"] == cache.open(features).manifest.digest
    assert facts["maps"] == ["neck"]
    assert facts["labelled"] == sorted(sample.key for sample in task_run.splits.train)


def test_its_masks_become_a_cache_that_holds_what_it_says(task_run, distilled_run, features):
    store, teacher = cache.open(distilled_run.caches["masks"]), TaskTeacher(task_run.published, cache.open(features))
    assert store.spec.names == (MASK,)
    for sample in distilled_run.splits.train[:3]:
        said = teacher.logits(sample.key)
        for view in VIEWS:
            kept = store.codecs[MASK].inverse(store.decode(sample.key, view, map=MASK))
            assert torch.nn.functional.cosine_similarity(kept.flatten(), flip(said, view).flatten(), dim=0) > 0.97
    assert store.codecs[MASK].reached >= FIDELITY


def test_the_masks_are_averaged_over_the_views(task_run, features):
    teacher = TaskTeacher(task_run.published, cache.open(features))
    key = task_run.splits.train[0].key
    assert teacher.logits(key).shape == (1, 24, 24)
    alone = replace(teacher, source=cache.open(features))
    alone.source.__dict__["_find"] = lambda wanted, find=alone.source._find: (
        find(wanted) if wanted[1] == "identity" else None
    )
    assert not torch.allclose(alone.logits(key), teacher.logits(key))


def test_a_given_cache_need_not_hold_the_gallery_but_every_training_image(distilled_run, tmp_path):
    """As a cache from elsewhere, whose validation images were others."""
    val = tuple(replace(sample, key=f"{number:e>64}") for number, sample in enumerate(distilled_run.splits.val))
    run = replace(distilled_run, splits=replace(distilled_run.splits, val=val))
    run = replace(run, caches={**run.caches, "masks": tmp_path / "masks"})
    assert extract(run) == {"drawn": 0, "masks": 0}
    assert {key for key, _ in cache.open(tmp_path / "masks")} == {sample.key for sample in run.splits.train}
    foreign = (*run.splits.train, replace(run.splits.train[0], key="f" * 64))
    with pytest.raises(FileNotFoundError, match=f"lacks image {'f' * 12}, which the task teacher in .* should read"):
        extract(replace(run, splits=replace(run.splits, train=foreign)))


def test_a_student_hears_the_soft_mask_of_the_very_crop_and_view(distilled_run, tmp_path):
    run = replace(distilled_run, folder=tmp_path / "run")
    summary = train(run)
    assert summary["targets"] == ["masks/mask/mask/1"]
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["imitate_mask"]) for line in lines if "loss" in line)


def test_masks_and_features_teach_together(distilled_run, features):
    stages = {"semantic": StageRecipe(epochs=1, losses={"imitate_mask": 1.0, "imitate_features": 1.0, "segment": 1.0})}
    recipe = replace(distilled_run.recipe, stages=stages, imitate=replace(distilled_run.recipe.imitate, all=[8]))
    student = create_student(recipe)
    targets = plan_targets(recipe, open_caches(replace(distilled_run, recipe=recipe)), student)
    assert {target.name for target in targets} == {"drawn/neck/all/8", "masks/mask/mask/1"}


def test_a_decoder_needs_the_validation_images_in_its_cache(task_run):
    other = replace(task_run.splits, val=(replace(task_run.splits.val[0], key="f" * 64),))
    with pytest.raises(FileNotFoundError, match="lacks 1 of 33 records"):
        open_caches(replace(task_run, splits=other))


def test_a_task_teacher_has_the_views_of_the_cache_it_reads(distilled_run):
    recipe = distilled_run.recipe
    two = replace(recipe.teachers["drawn"], views=["identity", "hflip"])
    augment = replace(recipe.augment, views=["identity", "hflip"])
    changed = replace(recipe, teachers={**recipe.teachers, "drawn": two}, augment=augment)
    plan = plan_extraction(replace(distilled_run, recipe=changed), "masks")
    assert {view for _, view in plan.records} == {"identity", "hflip"}
    given = {"masks": replace(recipe.teachers["masks"], cache="somewhere", of=None)}
    assert list(replace(recipe, teachers=given).consulted) == ["masks"], "a finished mask cache needs no source"


def test_what_a_decoder_cannot_have_is_refused():
    for word in (
        "student.encoder=x.safetensors",
        "student.init=somewhere",
        "publish.encoder=true",
        "augment.erase=0.2",
    ):
        with pytest.raises(ValueError, match="=task_decoder does not support it; leave it out"):
            read_recipe(["recipe=adapt_teacher", word])
    with pytest.raises(ValueError, match=r"weights=builtin is for generated frames only, but data\.name is folder"):
        read_recipe(["recipe=adapt_teacher", "data.name=folder", "data.root=x"])
    with pytest.raises(ValueError, match=r"data\.root is x, but data\.name is builtin, which is generated"):
        read_recipe(["recipe=adapt_teacher", "data.root=x"])


def test_a_network_without_a_soft_mask_cannot_say_one(distilled_run):
    teachers = {"several": TeacherRecipe(adapter="student", weights="x")}
    recipe = replace(distilled_run.recipe, teachers=teachers)
    with pytest.raises(ValueError, match="teacher 'several' has no soft mask of one class, only stride16"):
        check_mask(recipe, ["stride16"], teacher="several")


def test_masks_of_images_without_labels_here_are_refused(distilled_run, caplog):
    train_part = distilled_run.splits.train
    with caplog.at_level("INFO", "bandpass"):
        open_caches(replace(distilled_run, splits=replace(distilled_run.splits, train=train_part[:4])))
    assert "learned from the masks of 4 images that are not in this run" in caplog.text
    fewer = replace(distilled_run.splits, train=train_part[:4], unlabelled=train_part[4:])
    with pytest.raises(ValueError, match="was trained on the masks of 4 images that have no mask here"):
        open_caches(replace(distilled_run, splits=fewer))


def test_a_decoder_that_saw_few_masks_teaches_images_that_have_none(features, task_run, tmp_path, monkeypatch):
    train_part = task_run.splits.train
    few = replace(task_run.splits, train=train_part[:4], unlabelled=tuple(map(unlabel, train_part[4:])))
    decoder = replace(run_of(task_run.recipe, tmp_path / "decoder"), splits=few)
    train(decoder), evaluate(decoder), publish(decoder)
    stages = {"joint": StageRecipe(epochs=2, losses={"segment": 1.0, "imitate_mask": 1.0})}
    run = replace(run_of(replace(distilled_recipe(features, decoder), stages=stages), tmp_path / "run"), splits=few)
    extract(run)
    assert all((sample.key, "identity") in cache.open(run.caches["masks"]) for sample in few.unlabelled)
    heard, term = [], losses.imitate_mask
    monkeypatch.setattr(losses, "imitate_mask", lambda *given, **warm: heard.append(given[1]) or term(*given, **warm))
    summary = train(run)
    assert [target.split("/")[0] for target in summary["targets"]] == ["masks"]
    unknown = [(mask == losses.IGNORED).flatten(1).all(1).tolist() for mask in heard]
    assert unknown == [[False, False, True, True]] * summary["steps"]


@pytest.mark.parametrize(("file", "damage"), [("task.json", "{"), ("task.json", "{}"), ("config.json", "[1]")])
def test_a_damaged_file_of_a_task_teacher_is_named_with_the_cure(task_run, features, tmp_path, file, damage):
    folder = tmp_path / "teacher"
    shutil.copytree(task_run.published, folder)
    (folder / file).write_text(damage)
    teacher = TaskTeacher(folder, cache.open(features))
    with pytest.raises(ValueError, match=rf"{file} is damaged \(.*\); publish the task teacher again with distill"):
        _ = teacher.facts, teacher.decoder


def test_a_task_teacher_is_no_student_of_images_and_says_what_it_is(task_run):
    with pytest.raises(ValueError, match=r"is a task teacher, which reads another teacher's features, not images"):
        read_config(task_run.published)


def test_a_decoder_of_another_cache_is_refused(task_run, features, tmp_path):
    folder = tmp_path / "teacher"
    folder.mkdir()
    for path in task_run.published.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    facts = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps({**facts, "reads": "0" * 64}))
    with pytest.raises(ValueError, match="was trained on another cache than"):
        _ = TaskTeacher(folder, cache.open(features)).facts
    with pytest.raises(FileNotFoundError, match=r"expected a task teacher in .*; recipe=adapt_teacher publishes one"):
        _ = TaskTeacher(tmp_path, cache.open(features)).facts


def test_a_decoder_whose_weights_are_cut_short_is_named(task_run, features, tmp_path):
    shutil.copytree(task_run.published, tmp_path / "teacher")
    weights = tmp_path / "teacher" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
        _ = TaskTeacher(tmp_path / "teacher", cache.open(features)).decoder


def test_a_recipe_that_cannot_have_masks_is_refused(features, task_run):
    recipe = distilled_recipe(features, task_run)
    with pytest.raises(ValueError, match=r"teachers\.masks\.of is 'sam', but must name the teacher .*: drawn"):
        replace(recipe, teachers={**recipe.teachers, "masks": replace(recipe.teachers["masks"], of="sam")})
    with pytest.raises(ValueError, match=r"stages weigh imitate_mask, but no teacher gives soft masks \(adapter task"):
        replace(recipe, teachers={"drawn": recipe.teachers["drawn"]})
    with pytest.raises(ValueError, match=r"imitate_mask needs soft masks of 3 classes \(student\.classes\), but"):
        replace(recipe, student=StudentRecipe(width=2, classes=3))
    with pytest.raises(ValueError, match="reads the features of one teacher and imitates none"):
        replace(recipe, student=StudentRecipe(name="task_decoder"))


def test_a_published_student_teaches_another_one_from_its_cache(tmp_path, capfd):
    """The whole path of recipe=malunet_to_microaunet on drawn discs, with small networks."""
    small = ["data.name=builtin", "data.size=[64,64]", "data.images={train: 12, val: 4, test: 4}", "image_size=64"]
    small += ["student.name=unet", "student.width=2", "optimiser.batch_size=4", "precision=fp32", f"home={tmp_path}"]
    small += ["stages.semantic.epochs=2", "stages.boundary.epochs=1", "publish.examples=1", "cache.fidelity=0.8"]
    alone = [f"stages.{stage}.losses={{imitate_features: 0, imitate_mask: 0}}" for stage in ("semantic", "boundary")]
    assert main(["recipe=malunet_to_microaunet", *small, *alone, "name=first"]) == 0
    (first,) = (tmp_path / "runs").iterdir()
    record, elsewhere = first / "student" / "learned.json", 64 * "f"  # an image on which the second is not trained
    record.write_text(json.dumps({"labelled": [*json.loads(record.read_text())["labelled"], elsewhere]}))
    next(first.rglob("published.json")).unlink()  # or the record would no longer be as it was published
    assert main(["recipe=malunet_to_microaunet", *small, f"teachers.malunet.weights={first / 'student'}"]) == 0
    (second,) = [run for run in (tmp_path / "runs").iterdir() if run != first]
    summary = json.loads((second / "train.json").read_text())
    assert summary["targets"] == ["malunet/mask/mask/1", "malunet/stride16/all/16", "malunet/stride8/all/8"]
    store = cache.open(next((tmp_path / "features").iterdir()))
    assert store.codecs[MASK].reached >= FIDELITY
    assert "student" in (second / "student" / "README.md").read_text()
    learned = json.loads(record.read_text())["labelled"]
    assert store.identity["labelled"] == learned
    assert elsewhere in learned
    assert set(learned) == set(json.loads((second / "student" / "learned.json").read_text())["labelled"])
    few = ["data.labels=6", "do=extract,train", f"teachers.malunet.weights={first / 'student'}"]
    assert main(["recipe=malunet_to_microaunet", *small, *few]) == 1
    said = capfd.readouterr().err
    assert "was trained on the masks of 6 images that are validation, test or unlabelled here" in said
    assert len(list((tmp_path / "features").iterdir())) == 1, "told before any costly work"
