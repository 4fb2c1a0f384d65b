"""Teachers that a recipe makes: `teachers.NAME.recipe`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from published import without_onnx_and_pictures
from small_run import disc_splits, recipe_of, run_of
from small_teachers import write_timm

from distill.config.parse import read_recipe
from distill.config.schema import StageRecipe, TeacherRecipe
from distill.run import main
from distill.runs.leakage import check_teachers
from distill.runs.open_run import open_run
from distill.runs.weights import read_trained

DATA = {"size": [64, 64], "images": {"train": 8, "val": 1, "test": 1}}
SHARED = {
    "image_size": 64,
    "workers": 0,
    "augment": {"views": ["identity", "hflip"]},
    "optimiser": {"batch_size": 4},
    "evaluate": {"every": 1, "bootstrap": 100},
    "publish": {"examples": 0},
    "cache": {"calibration": 8},
}
TEACHER = {
    **SHARED,
    "name": "teacher",
    "precision": "bf16",  # not the student's, which must not notice
    "student": {"name": "unet", "width": 4},
    "stages": {"masks": {"steps": 2, "losses": {"segment": 1.0}}},
}
STUDENT = {
    **SHARED,
    "name": "student",
    "data": DATA,
    "teachers": {"made": {"adapter": "student", "recipe": "teacher.yaml", "views": ["identity", "hflip"]}},
    "student": {"name": "unet", "width": 4},
    "stages": {"both": {"steps": 2, "losses": {"segment": 1.0, "imitate_features": 1.0}}},
    "arms": {"baseline": {"stages": {"both": {"losses": {"imitate_features": 0}}}}, "distilled": {}},
}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    """The recipes lie where the command is typed; the ONNX file and pictures, which take the longest, are left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BANDPASS_THREADS", "1")
    without_onnx_and_pictures(monkeypatch)
    write("teacher", TEACHER)
    write("student", STUDENT)


def write(file, recipe, **changes):
    Path(f"{file}.yaml").write_text(yaml.safe_dump({**recipe, **changes}, sort_keys=False))


def made_by(**entry):
    """The student's recipe with another teacher."""
    return {**STUDENT, "teachers": {"made": {"views": ["identity", "hflip"], **entry}}}


def opened(*words):
    return open_run(read_recipe(["recipe=student.yaml", *words]))


def test_the_teacher_is_trained_first_and_recorded_and_reused_by_its_digest(tmp_path, capfd):
    assert main(["run", "recipe=student.yaml", "--dry-run"]) == 0
    run = opened()
    (teacher,) = run.made["made"]
    shown = capfd.readouterr().out
    assert (
        f"teacher made is made first, by recipe=teacher.yaml, in {teacher.folder}:\n  student unet of width 4" in shown
    )
    assert "their cost can be estimated once the teacher is made" in shown
    assert not teacher.folder.exists()

    assert main(["run", "recipe=student.yaml"]) == 0
    said = capfd.readouterr().err
    assert f"making teacher made first, by recipe=teacher.yaml, in {teacher.folder}" in said
    assert (teacher.published / "model.safetensors").is_file()
    origin = {"recipe": "teacher.yaml", "runs": [teacher.folder.name]}
    assert json.loads((run.caches["made"] / "manifest.json").read_text())["identity"]["made_by"] == origin
    card = (run.published / "README.md").read_text()
    assert f"made by recipe=teacher.yaml, run {teacher.folder.name} (sha256 " in card
    assert "recipe=recipe.yaml teachers.made.recipe=FILE" in card
    assert opened().folder == run.folder == open_run(read_recipe([f"recipe={run.folder / 'recipe.yaml'}"])).folder
    assert main(["run", "recipe=student.yaml"]) == 0
    assert "making teacher made first" not in capfd.readouterr().err

    # The same training under another name, in another home: it is found, and the student learns the same to the bit.
    words = ["home=other", "name=mine", f"data={json.dumps(DATA)}"]
    assert main(["run", "recipe=teacher.yaml", *words]) == 0
    assert main(["run", "recipe=student.yaml", "home=other"]) == 0
    assert "making teacher made first" not in capfd.readouterr().err
    again = opened("home=other")
    assert again.made["made"][0].recipe.name == "mine"
    assert again.folder.name == run.folder.name
    (_, first), (_, second) = read_trained(run), read_trained(again)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_encoder_of_a_trained_student_teaches_and_compare_says_that_it_is_made(tmp_path, capsys):
    network = {"name": "timm_unet", "width": 4, "options": {"backbone": "test_efficientnet"}}
    write("teacher", TEACHER, student=network)
    write("student", made_by(adapter="timm", recipe="teacher.yaml", model="test_efficientnet", strides=[8, 16]))
    run = opened("teachers.made.image_size=64")
    (teacher,) = run.made["made"]
    assert teacher.recipe.publish.encoder
    assert run.recipe.teachers["made"].weights == str(teacher.published / "encoder" / "encoder.safetensors")
    words = ["recipe=student.yaml", "teachers.made.image_size=64"]
    assert main(["compare", *words, "seeds=0", "--dry-run"]) == 0
    assert f"teacher made is made first, by recipe=teacher.yaml: 2 steps in {teacher.folder}" in capsys.readouterr().out
    assert main(["extract", *words]) == 0
    identity = json.loads((run.caches["made"] / "manifest.json").read_text())["identity"]
    assert identity["teacher"] == "timm"
    assert identity["labelled"] == sorted(sample.key for sample in run.splits.train)


def test_an_ensemble_has_a_run_of_each_seed():
    write("student", made_by(adapter="ensemble", recipe="teacher.yaml", seeds=[4, 7], overrides={"student.width": 8}))
    with pytest.raises(ValueError, match=r"teachers\.made\.recipe=teacher\.yaml: a recipe has no key 'student\.width'"):
        opened()
    write("student", made_by(adapter="ensemble", recipe="teacher.yaml", seeds=[4, 7]))
    run = opened("teachers.made.overrides.student.width=8")
    assert [(one.recipe.seed, one.recipe.student.width) for one in run.made["made"]] == [(4, 8), (7, 8)]
    places = run.recipe.teachers["made"].weights.split(",")
    assert places == [str(one.published) for one in run.made["made"]]
    assert opened("teachers.made.seeds=4,8").caches != run.caches


def test_a_task_teacher_reads_the_cache_that_its_masks_are_made_from(tmp_path):
    weights = write_timm(tmp_path / "timm")
    source = {
        "adapter": "timm",
        **{key: str(value) if key == "weights" else value for key, value in weights.items()},
        "strides": [8],
        "views": ["identity", "hflip"],
        "weight": 0.5,
    }
    stages = {"both": {"steps": 2, "losses": {"segment": 1.0, "imitate_mask": 1.0}}}
    masks = {"adapter": "task", "of": "source", "recipe": "adapt_teacher"}
    write("student", {**STUDENT, "teachers": {"source": source, "masks": masks}, "stages": stages})
    run = opened("cache.fidelity=0.9")
    (decoder,) = run.made["masks"]
    assert decoder.recipe.reads_features
    assert decoder.caches == {"source": run.caches["source"]}
    assert run.recipe.teachers["masks"].weights == str(decoder.folder / "teacher")


def test_home_and_data_are_inherited_unless_they_are_overridden():
    run = opened("home=there", "data.seed=5", "data.unlabelled=null")
    (teacher,) = run.made["made"]
    assert (teacher.recipe.home, teacher.recipe.data) == ("there", run.recipe.data)
    assert teacher.splits is run.splits
    (teacher,) = opened("teachers.made.overrides.data.labels=50%", "teachers.made.overrides.home=007").made["made"]
    assert (teacher.recipe.home, teacher.recipe.data.labels) == ("007", "50%")  # text stays text
    assert len(teacher.splits.train) == 4


def test_a_recipe_that_makes_itself_a_teacher_is_refused():
    write("student", made_by(adapter="student", recipe="student.yaml"))
    with pytest.raises(ValueError, match=r"teachers\.made\.recipe=student\.yaml makes itself a teacher"):
        opened()
    write("student", made_by(adapter="student", recipe="between.yaml"))
    write("between", made_by(adapter="student", recipe="student.yaml"), name="between")
    with pytest.raises(ValueError, match=r"recipe=between\.yaml makes itself a teacher"):
        opened()
    masks_alone = {"stages": {"both": {"losses": {"imitate_features": 0}}}}  # a generation that has no teacher
    write("between", made_by(adapter="student", recipe="student.yaml", overrides=masks_alone), name="between")
    (between,) = opened().made["made"]
    assert [one.recipe.imitates for one in between.made["made"]] == [False]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"weights": "DIR"},
            r"teachers\.made has weights DIR and a recipe that makes them, teacher\.yaml; leave o",
        ),
        (
            {"adapter": "dinov2"},
            r"a recipe makes teachers student, ensemble, task, timm, sam, not dinov2; giv",
        ),
        (
            {"seeds": [1, 2]},
            r"teachers\.NAME\.seeds is \[1, 2\], but must be at least two different seeds if adapter is ens",
        ),
        ({"adapter": "ensemble"}, r"teachers\.NAME\.seeds is \[\], but must be at least two different seeds"),
        ({"recipe": None, "overrides": {"seed": 1}}, r"teachers\.NAME\.overrides is for teachers\.NAME\.recipe, which"),
        ({"overrides": {"stagse": {}}}, r"teachers\.made\.recipe=teacher\.yaml: a recipe has no key 'stagse'; did you"),
    ],
)
def test_what_cannot_be_made_is_refused(entry, message):
    write("student", made_by(**{"adapter": "student", "recipe": "teacher.yaml", **entry}))
    with pytest.raises(ValueError, match=message):
        opened()
    with pytest.raises(FileNotFoundError, match="unknown recipe 'tacher'; choose from"):
        write("student", made_by(adapter="student", recipe="tacher"))
        opened()


def test_a_teacher_that_would_see_held_out_images_or_other_masks_is_refused_before_it_is_trained(tmp_path, capfd):
    splits = disc_splits()
    entry = TeacherRecipe(adapter="student", recipe="teacher.yaml", weights="DIR")
    run = run_of(replace(recipe_of(), teachers={"made": entry}), tmp_path / "student")
    teacher = run_of(recipe_of(), tmp_path / "teacher")
    for other, seen in (
        (replace(splits, train=splits.test["left"]), "on 3 images that are validation or test here; without"),
        (replace(splits, unlabelled=splits.val), None),  # which are not read by a teacher that learns from masks alone
        (replace(splits, train=splits.train), None),
    ):
        made = {"made": (replace(teacher, splits=other),)}
        if seen is None:
            check_teachers(replace(run, made=made))
        else:
            with pytest.raises(ValueError, match=f"recipe=teacher.yaml would train a teacher {seen}"):
                check_teachers(replace(run, made=made))
    stages = {"a": StageRecipe(epochs=1, losses={"segment": 1.0, "imitate_low": 1.0})}
    imitating = replace(teacher.recipe, stages=stages, teachers={"drawn": TeacherRecipe(weights="given")})
    made = {"made": (replace(teacher, recipe=imitating, splits=replace(splits, unlabelled=splits.val)),)}
    with pytest.raises(ValueError, match="on 2 images that are validation or test here"):
        check_teachers(replace(run, made=made))
    assert main(["run", "recipe=student.yaml", "data.labels=3", "teachers.made.overrides.data.labels='100%'"]) == 1
    assert "would train a teacher on the masks of 5 images that have no mask here" in capfd.readouterr().err
    assert not list(tmp_path.glob("artifacts/runs/teacher*"))


def test_a_teacher_that_is_gone_is_made_again_where_its_cache_lacks_records(capfd):
    assert main(["run", "recipe=student.yaml"]) == 0
    run = opened()
    (teacher,) = run.made["made"]
    shutil.rmtree(teacher.published)
    last = sorted(run.caches["made"].glob("shard-*"))[-1]
    whole = last.read_bytes()
    last.unlink()
    capfd.readouterr()
    assert main(["extract", "recipe=student.yaml"]) == 0
    assert "making teacher made first" in capfd.readouterr().err
    assert (teacher.published / "model.safetensors").is_file()
    assert last.read_bytes() == whole
    shutil.rmtree(teacher.published)
    assert main(["extract", "recipe=student.yaml"]) == 0, "a whole cache needs no teacher"
    assert not teacher.published.exists()
