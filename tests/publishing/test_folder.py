"""The published folder as a whole: full disks, kills, several publishes at once, damage."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from small_run import small_run

from distill.evaluation.evaluate import evaluate
from distill.publishing import plan as planning
from distill.publishing.folder import replaced, sweep
from distill.publishing.publish import publish

contents = import_module("distill.publishing.student")
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that has been evaluated, and an exporter and a runner that are torch itself."""
    run = small_run(tmp_path, examples=1)
    evaluate(run)
    exported = []

    def by_torch(images):
        with torch.inference_mode():
            return exported[-1](torch.from_numpy(images.copy())).numpy()

    def export(model, path, *, metadata):
        exported.append(model)
        path.write_bytes(b"onnx")

    monkeypatch.setattr(contents, "export_onnx", export)
    monkeypatch.setattr(contents, "open_onnx", lambda path, **threads: by_torch)
    return run


def bytes_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def other_wishes(run):
    return replace(run, recipe=replace(run.recipe, publish=replace(run.recipe.publish, licence="mit")))


def left_of(run):
    return [*run.folder.glob(".student*"), *run.folder.rglob(".writing-*")]


@pytest.mark.parametrize("step", ["export_onnx", "draw_examples", "write_text", "save_weights"])
def test_a_full_disk_is_told_and_leaves_the_earlier_folder_whole(run, monkeypatch, step):
    before = bytes_of(publish(run))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(contents, step, full)
    with pytest.raises(
        OSError, match=r"could not write .*student .*No space left.*what was published before is intact"
    ):
        publish(other_wishes(run))
    assert bytes_of(run.published) == before
    assert not left_of(run)


@pytest.mark.parametrize("limit", [1_000, 4_000, 20_000])
def test_a_file_that_cannot_grow_is_told_by_whichever_library_writes_it(run, limit):
    before = bytes_of(publish(run))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=r"what was (published|written) before is intact"):
            publish(other_wishes(run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert bytes_of(run.published) == before
    assert not left_of(run)


def test_what_is_not_of_the_folder_beside_it_stays(tmp_path):
    """A folder being written whose name begins alike, and one of the user's own."""
    others = [tmp_path / ".polyp.2.new", tmp_path / ".polyp.backup"]
    for other in others:
        other.mkdir()
    with replaced(tmp_path / "polyp") as folder:
        (folder / "file").write_text("new")
    assert all(other.is_dir() for other in others)
    assert (tmp_path / "polyp" / "file").read_text() == "new"


def test_of_a_link_the_folder_that_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for text in ("first", "second"):
        with replaced(tmp_path / "link") as folder:
            (folder / "file").write_text(text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "disk" / "file").read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


@pytest.mark.parametrize("name", ["polyp[1]", "polyp*"])
def test_what_a_kill_left_is_found_whatever_the_name(tmp_path, name):
    (tmp_path / f".{name}.new").mkdir()
    sweep(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_another_error_stays_what_it_is(tmp_path):
    final = tmp_path / "student"
    with pytest.raises(ValueError, match=r"^unknown$"), replaced(final) as folder:
        (folder / "half").write_bytes(b"half")
        raise ValueError("unknown")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_publish_left_is_swept_and_the_earlier_folder_put_back(run):
    before = bytes_of(publish(run))
    (run.folder / ".student.new").mkdir()
    (run.folder / ".student.new" / "model.onnx").write_bytes(b"half")
    run.published.rename(run.folder / ".student.old")  # killed between the two renames
    assert bytes_of(publish(run)) == before
    assert not left_of(run)


def test_the_earlier_folder_is_not_put_back_over_a_new_one(tmp_path):
    for name in ("student", ".student.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    sweep(tmp_path / "student")
    assert (tmp_path / "student" / "name").read_text() == "student"
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from importlib import import_module
from pathlib import Path
import torch
from accelerate import Accelerator
from small_run import disc_splits
from distill.config.schema import DataRecipe, PublishRecipe, Recipe, StageRecipe, StudentRecipe
from distill.publishing.publish import publish
from distill.runs.run import Run
torch.set_num_threads(1)
contents, exported = import_module("distill.publishing.student"), []
def export(model, path, *, metadata):
    path.write_bytes(b"half")
    with open({folder!r} + "/built", "a") as stream:
        stream.write("once, ")
    time.sleep({seconds})
    exported.append(model)
def by_torch(images):
    with torch.inference_mode():
        return exported[-1](torch.from_numpy(images.copy())).numpy()
contents.export_onnx, contents.open_onnx = export, lambda path, threads=0: by_torch
recipe = Recipe(name="discs", image_size=32, data=DataRecipe(name="builtin"), student=StudentRecipe(width=4),
    stages={{"semantic": StageRecipe(epochs=1, losses={{"segment": 1.0}})}}, publish=PublishRecipe(examples=0))
publish(Run(recipe, disc_splits(), {{}}, Path({folder!r}), Accelerator(cpu=True)))
"""


def publish_apart(run, *, seconds):
    """Another process that publishes the run without examples, and takes so many seconds to export."""
    code = SLOW.format(tests=str(TESTS), folder=str(run.folder), seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", code], cwd=TESTS.parent)


def test_a_kill_while_publishing_leaves_the_earlier_folder_and_nothing_after_the_next(run):
    before = bytes_of(publish(run))
    with publish_apart(run, seconds=600) as process:
        until = time.monotonic() + 120
        while not (run.folder / ".student.new" / "model.onnx").is_file() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert (run.folder / ".student.new").is_dir()
    assert bytes_of(run.published) == before
    publish(run)
    assert bytes_of(run.published) == before
    assert not left_of(run)


def test_three_publishes_at_once_build_the_folder_once(run):
    processes = [publish_apart(run, seconds=2) for _ in range(3)]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    assert (run.folder / "built").read_text() == "once, "
    assert (run.published / "published.json").is_file()
    assert not left_of(run)


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "config.json", "examples/1.png"])
def test_a_damaged_file_is_published_again(run, name):
    path = publish(run) / name
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert (publish(run) / name).read_bytes() == whole


def test_a_card_that_its_owner_has_edited_stays(run):
    (publish(run) / "README.md").write_text("mine")
    assert (publish(run) / "README.md").read_text() == "mine"


@pytest.mark.parametrize("damage", ["{", "[]", "\udcff"])
def test_a_damaged_record_is_no_record(run, damage):
    path = publish(run) / planning.RECORD
    before = json.loads(path.read_text())
    path.write_bytes(damage.encode("utf-8", "surrogateescape"))
    publish(run)
    assert json.loads(path.read_text())["weights"] == before["weights"]


def test_a_student_that_answers_nonsense_is_not_published(run, monkeypatch):
    model = contents.load_student(run)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    monkeypatch.setattr(contents, "load_student", lambda run: model.eval())
    with pytest.raises(
        ValueError, match=r"expected probabilities in \[0, 1\] of the student on left/.*got values from nan"
    ):
        publish(run)
    assert not run.published.exists()
