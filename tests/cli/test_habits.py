"""Daily use: the next command, the log that is kept, and runs that are found by name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from published import write_student
from small_run import small_run

import distill
from distill.cli.commands import told
from distill.cli.logs import kept_in, logger
from distill.cli.messages import conclusion, few_images, introduction, next_commands
from distill.config.command import command_for, command_to_predict, remember_words
from distill.config.registry import STEPS
from distill.run import main
from distill.runs.latest import find_run, runs_in, student_of

SMALL = ["recipe=sam_to_unet", "image_size=64", "data.size=[64,64]", "data.images={train: 12, val: 4, test: 5}"]


@pytest.fixture(autouse=True)
def _nothing_typed():
    remember_words([])
    yield
    remember_words([])


def add_run(home, name, *, seconds, dice=None, steps=None, student=False):
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: x\n")
    if steps is not None:
        (folder / "train.json").write_text(json.dumps({"steps": steps}))
    if dice is not None:
        (folder / "metrics.json").write_text(json.dumps({"datasets": {"kvasir": {"dice": {"mean": dice}}}}))
    if student:
        write_student(folder / "student")
    for path in folder.iterdir():
        os.utime(path, (seconds, seconds))
    return folder


@pytest.fixture
def home(tmp_path):
    add_run(tmp_path, "own-unet-0123456789ab", seconds=1_000_000, dice=0.7, steps=600, student=True)
    add_run(tmp_path, "own-unet-ba9876543210", seconds=2_000_000, dice=0.8, steps=700, student=True)
    add_run(tmp_path, "own-malunet-ba9876543210", seconds=1_500_000)
    add_run(tmp_path, "other-unet-aaaaaaaaaaaa", seconds=3_000_000)
    return tmp_path


def test_training_before_extraction_says_what_to_type(tmp_path, capfd):
    assert main(["train", *SMALL, f"home={tmp_path}"]) == 1
    error = capfd.readouterr().err
    typed = " ".join(["recipe=sam_to_unet", "image_size=64", "'data.size=[64,64]'"])
    assert re.search(r"no features of teacher 'sam' at .*; type distill extract " + re.escape(typed), error)
    assert f"home={tmp_path} first" in error
    assert "do=" not in error


def test_the_command_of_one_step_takes_no_other(tmp_path, capfd):
    assert main(["train", *SMALL, f"home={tmp_path}", "do=extract"]) == 1
    assert "distill train does that step alone; take do=extract out, or type distill run" in capfd.readouterr().err


def test_the_command_to_type_has_the_words_that_were_typed():
    assert command_for("train") == "distill train recipe=NAME"
    remember_words(["recipe=own", "do=extract", "data.root=my data"])
    assert command_for("train") == "distill train recipe=own 'data.root=my data'"


@pytest.mark.parametrize(
    ("do", "commands"),
    [
        (["extract"], ["distill train recipe=own"]),
        (["extract", "train"], ["distill evaluate recipe=own"]),
        (["evaluate"], ["distill publish recipe=own"]),
        (["extract", "train", "evaluate", "publish"], ["distill predict student={} images=DIR out=masks"]),
    ],
)
def test_every_job_ends_with_the_next_command(do, commands, tmp_path):
    remember_words(["recipe=own"])
    run = small_run(tmp_path)
    run = replace(run, recipe=replace(run.recipe, do=do))
    assert next_commands(run) == [command.format(run.folder) for command in commands]


def test_after_the_whole_a_recipe_with_arms_can_be_compared(tmp_path):
    remember_words(["recipe=own"])
    run = small_run(tmp_path)
    slow = {"optimiser": {"learning_rate": 1e-5}}
    run = replace(run, recipe=replace(run.recipe, arms={"baseline": slow, "distilled": {}}, do=list(STEPS)))
    assert next_commands(run)[1:] == ["distill compare recipe=own seeds=0,1,2"]
    run = replace(run, recipe=replace(run.recipe, arms={"baseline": {}, "distilled": {}}))
    assert not next_commands(run)[1:]  # which compare would refuse


def test_a_step_that_is_done_is_not_the_next(tmp_path):
    run = small_run(tmp_path)
    write_student(run.published)
    run = replace(run, recipe=replace(run.recipe, do=["evaluate"]))
    assert next_commands(run) == [f"distill predict student={run.folder} images=DIR out=masks"]


def test_the_command_to_predict_consents_to_a_class_of_the_user_s_own():
    told = command_to_predict(Path("my run"), "my_nets:Net")
    assert told == "distill predict 'student=my run' trust=my_nets:Net images=DIR out=masks"


def test_what_passed_a_teacher_is_told_of_all_calls(tmp_path):
    told = list(conclusion(small_run(tmp_path), {"teacher_forwards": 198, "seconds": {"extract": 13.0}}))
    assert told[:2] == [
        "images through a teacher, over all calls of this run: 198",
        "seconds, over all calls of this run: extract 13",
    ]


def test_what_is_not_trained_leaves_no_run(tmp_path, capfd):
    for verb in ("evaluate", "publish"):
        assert main([verb, *SMALL, f"home={tmp_path}"]) == 1
        assert "has not begun; type distill train" in capfd.readouterr().err
    assert not runs_in(tmp_path)


def test_few_images_are_warned_of(tmp_path):
    warned = list(few_images(small_run(tmp_path)))
    assert warned == [
        "warning: left has 3 test images; with fewer than 20, a score says little",
        "warning: right has 2 test images; with fewer than 20, a score says little",
        "warning: 2 images to validate; with fewer than 10, the choice of the best weights is mostly chance",
    ]
    assert set(warned) <= set(introduction(small_run(tmp_path / "again")))


def test_the_log_is_kept_in_the_run_s_folder_by_the_first_process_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(logger, "propagate", False)  # pytest-xdist cannot send a captured surrogate,
    monkeypatch.setattr(logger, "handlers", [])  # and pytest captures by the logger itself where it does not propagate
    logger.setLevel("INFO")
    for lead in (True, False, True):
        with kept_in(tmp_path / "run", lead=lead):
            logger.info("%s", f"told by {lead} with \udcff")
    with pytest.raises(ValueError, match="no disk"), kept_in(tmp_path / "run", lead=True):
        raise ValueError("no disk")
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines[:4]] == [
        "told by True with \\udcff",
        "told by True with \\udcff",
        "stopped by ValueError: no disk",
        "Traceback (most recent call last):",
    ]
    assert not logger.handlers
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match=r"file/run, cannot be made \(.*\); give home=DIR"),
        kept_in(tmp_path / "file" / "run", lead=True),
    ):
        pass


def test_an_error_of_the_system_is_told_without_its_number():
    assert told(OSError(28, "No space left on device", "home/cache")) == "home/cache: no space left on device"
    assert told(FileNotFoundError("DIR holds no picture")) == "DIR holds no picture"


def test_words_in_place_of_a_recipe_are_refused_in_a_sentence():
    with pytest.raises(TypeError, match=r"expected a Recipe, as distill\.read_recipe.* returns, but got list"):
        distill.train(["recipe=sam_to_unet"])


def test_closed_streams_stop_nothing(tmp_path):
    run = Path(__file__).parents[2] / "distill" / "run.py"
    line = f"{sys.executable} {run} recipes >&- 2>&-"
    assert subprocess.run(["bash", "-c", line], cwd=tmp_path, check=False).returncode == 0


def test_runs_are_listed_the_latest_first(home, capsys):
    assert main(["runs", f"home={home}"]) == 0
    place, head, *lines = capsys.readouterr().out.splitlines()
    assert place == f"in {home}/runs:"
    assert head.split() == ["run", "date", "steps", "Dice"]
    digests = ["other-unet-aaaaaaaaaaaa", "own-unet-ba9876543210", "own-malunet-ba9876543210", "own-unet-0123456789ab"]
    assert [line.split()[0] for line in lines] == digests
    assert lines[1].split()[3:] == ["700", "kvasir", "0.800"]
    assert lines[0].split()[3:] == ["none", "not", "tested"]
    (home / "runs" / "other-unet-aaaaaaaaaaaa" / "log.jsonl").write_text('{"step": 425, "loss": 1}\n{"step": 4')
    (home / "runs" / "own-malunet-ba9876543210" / "log.jsonl").write_text("no log\n")
    assert main(["runs", f"home={home}"]) == 0
    told = capsys.readouterr().out
    assert " at 425 " in told and told.count(" at ") == 1
    assert main(["runs", f"home={home / 'nowhere'}"]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_a_run_is_found_by_folder_by_name_and_the_latest_by_its_recipe(home):
    runs = home / "runs"
    for name, folder in (
        (str(runs / "own-unet-0123456789ab"), "own-unet-0123456789ab"),
        ("own-unet-0123456789ab", "own-unet-0123456789ab"),
        ("own-unet", "own-unet-ba9876543210"),
        ("own", "own-unet-ba9876543210"),
        ("own-malunet", "own-malunet-ba9876543210"),
    ):
        assert find_run(name, home=home) == runs / folder, name
    for name in ("nobody", "owner/name", "../own", str(runs / "own-unet-0123456789ab" / "student"), str(home)):
        assert find_run(name, home=home) is None, name
    assert student_of("own", home=home) == str(runs / "own-unet-ba9876543210" / "student")
    assert student_of("owner/name", home=home) == "owner/name"
    with pytest.raises(
        FileNotFoundError, match=r"other-unet-a+ has no student yet; type distill run recipe=.*recipe\.yaml"
    ):
        student_of("other", home=home)
    (runs / "other-unet-aaaaaaaaaaaa" / "train.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"type distill publish recipe=.*recipe\.yaml"):
        student_of("other", home=home)


def test_a_run_that_is_not_there_says_where_it_was_looked_for(home, capfd):
    assert main(["report", "run=nobody", f"home={home}"]) == 1
    assert f"for a run of that name in {home}/runs; distill runs home=DIR lists the runs" in capfd.readouterr().err


def test_damaged_state_files_leave_a_run_in_the_list(home):
    folder = home / "runs" / "own-unet-ba9876543210"
    (folder / "metrics.json").write_text("{")
    (folder / "train.json").write_text("[]")
    assert {one.folder for one in runs_in(home)} == set((home / "runs").iterdir())


def test_predict_and_demo_take_a_run(home, capfd):
    write = [f"images={home}", f"out={home / 'out'}", f"home={home}"]
    assert main(["demo", "student=own", f"home={home}", "port=0", "--dry-run"]) == 0
    assert "would serve at" in capfd.readouterr().err
    assert main(["predict", "student=other-unet", *write]) == 1
    assert "has no student yet" in capfd.readouterr().err


def test_a_command_starts_without_torchs_compiler():
    code = "import sys, distill.cli.messages; print({'torch._dynamo', 'torchvision'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "set()\n"
