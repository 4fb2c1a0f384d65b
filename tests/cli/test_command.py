"""The whole path by its command line: extract, train, evaluate, publish, and what it says when something is wrong."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_run import small_run

import cache
import students
from distill.cli import dry_run as estimate
from distill.run import main
from distill.training import step_time

RUN = Path(__file__).resolve().parents[2] / "distill" / "run.py"
TINY = [
    "recipe=sam_to_unet",
    "precision=fp32",
    "image_size=64",
    "data.size=[64,64]",
    "data.images={train: 12, val: 4, test: 5}",
    "cache.fidelity=0.8",
    "student.width=2",
    "optimiser.batch_size=4",
    "stages.semantic.epochs=2",
    "stages.boundary.epochs=1",
    "evaluate.bootstrap=100",
    "publish.examples=2",
]


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A folder as transformers writes it, with SAM's architecture, small and random."""
    from transformers import SamVisionConfig, SamVisionModel

    torch.manual_seed(0)
    config = SamVisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,
        mlp_dim=64,
        image_size=64,
        patch_size=4,
        output_channels=8,
        window_size=8,
        global_attn_indexes=[1],
        initializer_range=0.05,
    )
    folder = tmp_path_factory.mktemp("teacher")
    SamVisionModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def words(teacher, tmp_path_factory):
    return [*TINY, f"teachers.sam.weights={teacher}", f"home={tmp_path_factory.mktemp('home')}"]


def home_of(words):
    return Path(next(word for word in words if word.startswith("home=")).removeprefix("home="))


def runs_of(words, pattern="*"):
    return sorted((home_of(words) / "runs").glob(pattern))


@pytest.fixture(scope="session")
def finished(words):
    assert main(words) == 0
    (run,) = runs_of(words)
    return run


def test_the_whole_job_leaves_a_student_that_others_can_use(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["teacher_forwards"] == 12 * 4 + 4  # views of the training part, pictures; calibration is among them
    assert set(metrics["seconds"]) == {"extract", "train", "evaluate", "publish"}
    assert metrics["datasets"]["builtin"]["images"] == 5
    published = finished / "student"
    names = {path.name for path in published.iterdir()}
    assert {"README.md", "config.json", "examples", "model.onnx", "model.safetensors", "recipe.yaml"} <= names
    assert (published / "examples" / "teacher.png").is_file()
    assert students.load(published)(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_the_same_command_again_does_nothing_again(words, finished, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    monkeypatch.setattr("teachers.load", lambda *_, **__: pytest.fail("the teacher was loaded"))
    assert main(words) == 0
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert {p.name for p in after if after[p] != before.get(p)} <= {"metrics.json", "log.txt"}


def test_a_written_recipe_finds_the_same_run(words, finished):
    assert main([f"recipe={finished / 'recipe.yaml'}", "do=evaluate"]) == 0
    assert runs_of(words) == [finished]


def test_a_second_student_costs_no_teacher(words, finished, monkeypatch):
    monkeypatch.setattr("teachers.load", lambda *_, **__: pytest.fail("the teacher was loaded"))
    assert main([*words, "student.width=3", "do=extract,train,evaluate"]) == 0
    (second,) = [run for run in runs_of(words) if run != finished]
    assert json.loads((second / "metrics.json").read_text())["teacher_forwards"] == 0


def test_a_student_learns_from_a_given_cache_without_the_teacher_s_weights(words, finished, tmp_path):
    (features,) = (home_of(words) / "features").iterdir()
    given = [word for word in words if not word.startswith(("teachers.", "home="))]
    given += [f"teachers.sam.cache={features}", "teachers.sam.weights=null", f"home={tmp_path}", "do=extract,train"]
    assert main(given) == 0
    own = json.loads((finished / "train.json").read_text())
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "train.json").read_text())["validation_dice"] == own["validation_dice"]


def test_a_damaged_shard_is_extracted_again(words, finished, teacher, tmp_path):
    small = [w for w in words if not w.startswith("home=")] + [f"home={tmp_path}", "do=extract"]
    assert main(small) == 0
    (features,) = (tmp_path / "features").iterdir()
    whole = {path.name: path.read_bytes() for path in features.glob("shard-*")}
    assert len(whole) == 2  # the calibration images' plain views have one of their own
    (features / min(whole)).write_bytes(whole[min(whole)][:-7])
    (features / max(whole)).write_bytes(whole[max(whole)][:-1] + b"?")
    assert main(small) == 0
    assert cache.verify(features) == []
    assert {path.name: path.read_bytes() for path in features.glob("shard-*")} == whole


def test_the_dry_run_writes_nothing_and_says_what_it_takes(words, tmp_path, capsys):
    assert main([*words, f"home={tmp_path}", "--dry-run"]) == 0
    text = capsys.readouterr().out
    for fact in ("12 to train, 4 to validate, 5 to test", "52 of them missing", " MB (raw fp", "9 steps of 4 images"):
        assert fact in text
    assert not list(tmp_path.iterdir()) or {p.name for p in tmp_path.iterdir()} <= {"file_index.table", "trackers"}


def test_the_dry_run_times_a_step_until_the_device_is_done(tmp_path, monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(step_time, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    monkeypatch.setattr(step_time, "settle", lambda: seconds.append(seconds.pop() + 3600))
    run = small_run(tmp_path)
    assert [*estimate.estimate_training(run)] == [f"trained already: {run.folder}"]
    run.trained.unlink()
    (line,) = estimate.estimate_training(run)
    assert "1 step of 8 images at 32 px, about 1 h 0 min" in line, "of the 8 that there are, not of 16"


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["recipe=sam_to_unet", "student.widht=3"], 1, "did you mean 'student.width'?"),
        (["recipe=sam_to_unet", "--dri-run"], 2, "unknown option --dri-run"),
        (["trian", "recipe=sam_to_unet"], 1, "unknown command 'trian'; choose from"),
        (["recipe=timm_to_unet"], 1, "data.root"),
        (["recipe=timm_to_unet", "data.root=/nowhere"], 1, "data.root=/nowhere does not exist"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(words, status, sentence, capfd):
    assert main(words) == status
    error = capfd.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1


def test_real_data_without_teacher_weights_stops_and_says_what_to_type(tmp_path, capfd):
    from PIL import Image

    for kind in ("images", "masks"):
        (tmp_path / "polyps" / kind).mkdir(parents=True)
        for number in range(10):
            picture = Image.new("RGB", (40, 40), (30, 10 * number, 60))
            if kind == "masks":
                picture = Image.new("L", (40, 40))
                picture.paste(255, (5, 5, 20 + number, 20))
            picture.save(tmp_path / "polyps" / kind / f"{number}.png")
    words = ["recipe=timm_to_unet", f"data.root={tmp_path / 'polyps'}", f"home={tmp_path / 'home'}"]
    assert main(words) == 1
    assert "weights" in capfd.readouterr().err
    assert main(["recipe=sam_to_unet", "data.name=folder", f"data.root={tmp_path / 'polyps'}"]) == 1
    assert "teachers.sam.weights=facebook/sam-vit-base" in capfd.readouterr().err


@pytest.mark.parametrize("command", [[str(RUN)], ["-m", "distill"]])
def test_the_script_and_the_package_run_from_any_directory(command, tmp_path):
    path = "" if command[0] != "-m" else str(RUN.parents[1])
    finished = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert "accelerate launch --multi_gpu distill/run.py" in finished.stdout


def test_two_processes_share_the_work_and_leave_the_same_cache(words, finished, tmp_path):
    mine = [word for word in words if not word.startswith("home=")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BANDPASS_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    for name, launcher, verbs in (("one", [sys.executable], "extract"), ("two", launch, "extract,train,evaluate")):
        done = subprocess.run(
            [
                *launcher,
                str(RUN),
                *mine,
                f"home={tmp_path / name}",
                f"do={verbs}",
                "data.images={train: 70, val: 4, test: 5}",
            ],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained") == 1
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / n).glob("features/*/*") if p.is_file()} for n in ("one", "two")
    )
    one.pop(".lock"), two.pop(".lock")
    assert one == two
    assert sum(name.startswith("shard-") for name in one) == 2
    (run,) = (tmp_path / "two" / "runs").iterdir()
    assert json.loads((run / "metrics.json").read_text())["datasets"]["builtin"]["images"] == 5


def test_compare_says_what_the_teacher_was_worth(words, finished, tmp_path, monkeypatch):
    logging.getLogger("bandpass").setLevel(logging.INFO)
    out = tmp_path / "out"
    assert main(["compare", *words, "seeds=0,1", "jobs=2", f"out={out}"]) == 0
    found = json.loads((out / "compare.json").read_text())
    assert [row["arm"] for row in found["rows"]] == ["baseline", "distilled"]
    assert found["seeds"] == [0, 1]
    assert found["steps"] == [9]
    assert (out / "compare.png").is_file()
    text = (out / "compare.md").read_text()
    assert "| distilled |" in text
    ((name, views),) = found["cached_views"].items()
    assert views == 12 * 4 + 4
    assert (
        f"\n\nViews on which the distilled runs are trained, each extracted once by its teacher: {views} ({name}). In"
        in text
    )
    extracted = []
    monkeypatch.setattr(import_module("distill.comparison.compare"), "do_step", lambda _, run: extracted.append(run))
    assert main(["compare", *words, "seeds=0,1", f"out={out}"]) == 0
    assert not extracted, "nothing is missing, so no cache is needed"
