"""Every recipe runs through all its verbs, for two steps a stage, with small random teachers for the named weights."""

from __future__ import annotations

import json

import pytest
from published import without_onnx_and_pictures
from small_teachers import (
    write_dinov2,
    write_dinov3,
    write_edgetam,
    write_ensemble,
    write_network,
    write_oneformer,
    write_sam,
    write_sam2,
    write_timm,
)

import recipes
import students
from distill.config.parse import read_recipe
from distill.run import main

NAMES = recipes.names()
STUDIES = (  # study_small's jobs, and expert_to_small's
    "study_factors",
    "study_few_labels",
    "study_full",
    "study_long",
    "study_fidelity",
    "study_pretrained",
    "study_published",
    "study_schedule",
    "study_shells",
    "study_students",
    "study_teachers",
    "study_views",
)
HIERA = "{width: 16, blocks: [1, 1, 2, 1], everywhere: [3], windows: [8, 4, 4, 2], background: 4}"
SMALL = [
    "data={name: builtin, root: null, train: [], test: [], test_only: [], size: [64, 64]}",
    "data.images={train: 8, val: 1, test: 1}",
    "image_size=64",
    "workers=0",
    "augment.views=[identity,hflip]",
    "optimiser.batch_size=4",
    "cache={fidelity: 0.8, calibration: 8}",
    "evaluate={bootstrap: 100, every: 1}",
    "publish.examples=1",
]
NETWORKS = {  # of students that are not small at any width
    "builtin_teacher": ["student.options={depth: 1, image_size: 64, patch: 8, neck: 8}", "student.width=32"],
    "study_pretrained": ["student.options.backbone=test_efficientnet", "student.encoder=null", "student.width=4"],
    "expert": ["student.options.backbone=test_efficientnet", "student.encoder=null", "student.width=4"],
    "expert_2": ["student.options.backbone=test_efficientnet", "student.init=null", "student.width=4"],
    "expert_3": ["student.options.backbone=test_efficientnet", "student.init=null", "student.width=4"],
    "study_empty": [
        "student.options={backbone: test_efficientnet, encoder_stages: 4}",
        "student.encoder=null",
        "student.width=4",
    ],
    "fewer_alarms": [
        "student.options={backbone: test_efficientnet, encoder_stages: 4}",
        "student.init=null",
        "student.width=4",
    ],
    "study_erase": [
        "student.options={backbone: test_efficientnet, encoder_stages: 4}",
        "student.encoder=null",
        "student.width=4",
    ],
    "expert_2_to_small": [
        "student.options={backbone: test_efficientnet, encoder_stages: 4}",
        "student.encoder=null",
        "student.width=4",
        "teachers.expert.strides=[8,16]",
    ],
    "expert_2_to_small_224": [
        "student.options={backbone: test_efficientnet, encoder_stages: 4}",
        "student.init=null",
        "student.width=4",
        "teachers.expert.strides=[8,16]",
    ],
    "expert_to_small": [
        "student.options={backbone: test_efficientnet, encoder_stages: 4}",
        "student.encoder=null",
        "student.width=4",
    ],
    "expert_to_microaunet": ["image_size=128", "teachers.expert.strides=[8,16]"],
    "expert_to_unet": ["student.width=4", "teachers.expert.strides=[8,16]"],
    "study_few_labels": [
        "student.options={backbone: test_efficientnet, encoder_stages: 4}",
        "student.encoder=null",
        "student.width=4",
    ],
    "pranet_protocol": ["student.options.backbone=test_efficientnet", "student.encoder=null", "student.width=4"],
    "mobilenet_unet": [
        "student.options={backbone: test_efficientnet, encoder_stages: 4}",
        "student.encoder=null",
        "student.width=4",
    ],
    "mean_teacher": [
        "student.options={backbone: test_efficientnet, encoder_stages: 4}",
        "student.encoder=null",
        "student.width=4",
        "data.labels=50%",
    ],
    "sam2_adapted": [f"student.options.trunk={HIERA}", "student.width=4"],
    "microaunet_published": ["image_size=128"],
    "malunet_to_microaunet": ["image_size=128"],  # the least that MicroAUNet takes
    "dinov2_to_microaunet": ["image_size=128"],
    "dinov3_to_microaunet": ["image_size=128"],
    "ensemble_to_microaunet": ["image_size=128"],
    "study_students": ["image_size=128"],
    "foundations_to_proxy": ["student.options.backbone=test_efficientnet", "student.encoder=null", "student.width=4"],
    "proxy_to_microaunet": ["image_size=128"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One for all: caches are shared as users share them."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Stand-ins for the named weights: words for each teacher's adapter or name, and SAM 2 for the trunk."""
    folder = tmp_path_factory.mktemp("weights")
    timm = write_timm(folder / "timm")
    return {
        "sam": [f"weights={write_sam(folder / 'sam')['weights']}"],
        "sam2": [f"weights={write_sam2(folder / 'sam2')['weights']}", "image_size=128"],
        "fpn": [f"weights={write_edgetam(folder / 'edgetam')['weights']}", "image_size=128"],
        "transformers": [f"weights={write_dinov3(folder / 'dinov3')['weights']}", "image_size=128"],
        "ensemble": [f"weights='{write_ensemble(folder / 'ensemble')['weights']}'"],
        "dinov2": [f"weights={write_dinov2(folder / 'dinov2')['weights']}", "image_size=140"],
        "oneformer": [f"weights={write_oneformer(folder / 'oneformer')['weights']}", "image_size=96"],
        "timm": [f"weights={timm['weights']}", "model=test_efficientnet", "strides=[8,16,32]", "image_size=96"],
        "student": [f"weights={write_network(folder / 'network')['weights']}"],
        "trunk": [f"student.encoder={folder / 'sam2'}"],
    }


@pytest.fixture(scope="module")
def ran(home, places):
    """Runs a recipe once, whoever asks; returns the folder of its run."""
    done = {}

    def run(name):
        if name not in done:
            assert main(words_of(name, home, places, run)) == 0
            (done[name],) = (home / "runs").glob(f"{name}-*")
        return done[name]

    return run


def words_of(name, home, places, run):
    """The command line of a recipe at this size."""
    recipe = read_recipe([f"recipe={name}"])
    words = [f"recipe={name}", f"home={home}", *SMALL, *NETWORKS.get(name, ["student.width=4"])]
    words += [f"stages.{stage}.steps=2" for stage, entry in recipe.stages.items() if entry.runs]
    if name == "sam2_adapted":
        words += places["trunk"]
    for teacher, entry in recipe.consulted.items():
        prefix = f"teachers.{teacher}"
        if entry.recipe:  # made by a recipe, of the same size as where that runs alone
            own = [word for word in words_of(entry.recipe, home, places, run)[2:] if not word.startswith("data")]
            words += [f"{prefix}.overrides.{word}" for word in own] + [f"{prefix}.views=[identity,hflip]"]
            continue
        asked = places["timm" if name == "adapt_teacher" else entry.adapter] if entry.adapter != "task" else []
        words += [f"{prefix}.{word}" for word in asked] + [f"{prefix}.views=[identity,hflip]"]
        words += ["teachers.source.adapter=timm"] if name == "adapt_teacher" else []
        if entry.adapter == "task":
            words.append(f"{prefix}.weights={run('adapt_teacher') / 'teacher'}")
        if name == "sam2_adapted_to_unet":
            words.append(f"{prefix}.weights={run('sam2_adapted') / 'student'}")
    return words


def require_whole(name, folder):
    """A run that did all that its recipe asks for."""
    recipe = read_recipe([f"recipe={folder / 'recipe.yaml'}"])
    summary, metrics = (json.loads((folder / f"{part}.json").read_text()) for part in ("train", "metrics"))
    assert summary["steps"] == 2 * sum(stage.runs for stage in recipe.stages.values())
    teachers = {teacher for target in summary["targets"] for teacher in target.split("/")[0].split("+")}
    assert teachers == set(recipe.consulted if recipe.imitates else ())
    assert metrics["datasets"]["builtin"]["images"] == 1
    assert set(metrics["seconds"]) == set(recipe.do)
    published = folder / ("teacher" if recipe.reads_features else "student")
    assert (published / "README.md").is_file()
    if not recipe.reads_features:
        assert students.load(published).classes == 1


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Two would wait for one another on a busy machine for longer than these networks take."""
    monkeypatch.setenv("BANDPASS_THREADS", "1")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in STUDIES])
def test_it_runs_through_all_its_verbs(name, ran, monkeypatch):
    without_onnx_and_pictures(monkeypatch)
    require_whole(name, ran(name))


@pytest.mark.study
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_through_all_its_verbs_and_its_onnx_file_is_checked(name, ran):
    require_whole(name, ran(name))
