"""Damaged files of a run, and SIGTERM: a sentence with the cure, and nothing is lost that was whole."""

from __future__ import annotations

import os
import signal
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_run import recipe_of, run_of, train_until, weights_of

from distill.runs.weights import load_student
from distill.runtime.signals import exit_on_signals
from distill.training.checkpoint import checkpoint_of, previous_of, remove_checkpoints
from distill.training.jsonl_log import last_step, read_log, read_validation
from distill.training.train import train

training = import_module("distill.training.train")


def flip(path, place: float) -> None:
    """Flips one bit at a place from 0 to 1."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def interrupted_run(folder, monkeypatch, *, at: int = 7):
    """A run that saved at every step and was killed before step `at`."""
    run = run_of(recipe_of(), folder)
    train_until(run, monkeypatch, step=at)
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = run_of(recipe_of(), tmp_path_factory.mktemp("trained") / "run")
    return run, train(run)


@pytest.fixture
def restored(trained):
    """A trained run whose files are put back afterwards."""
    run, _ = trained
    files = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    yield run
    for path, content in files.items():
        path.write_bytes(content)


@pytest.mark.parametrize("place", [0.0, 0.01, 0.3, 0.6, 0.9, 1.0])
def test_a_flipped_bit_in_the_weights_is_found_by_all_who_read_them(restored, place):
    flip(restored.weights, place)
    for read in (train, load_student):
        with pytest.raises(ValueError, match=r"best\.safetensors.*; put it back as it was .* delete train\.json and"):
            read(restored)


def test_weights_of_another_training_are_not_taken_for_these(restored):
    weights = weights_of(restored)
    weights["head.bias"] += 1
    save_file(weights, restored.weights)
    with pytest.raises(ValueError, match=r"is damaged \(expected tensors of sha256 .*, as train\.json records, got "):
        load_student(restored)


def test_the_same_tensors_from_a_published_student_are_as_good(restored):
    save_file(load_file(restored.weights), restored.weights)
    load_student(restored)


def test_truncated_weights_are_a_sentence(restored):
    restored.weights.write_bytes(restored.weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cannot read .*best\.safetensors .*; put it back"):
        train(restored)


@pytest.mark.parametrize("place", [0.0, 0.02, 0.4, 0.99])
def test_a_flipped_bit_in_the_checkpoint_is_found_and_what_to_do_helps(trained, tmp_path, monkeypatch, place):
    run = interrupted_run(tmp_path / "run", monkeypatch)
    flip(checkpoint_of(run), place)
    flip(previous_of(checkpoint_of(run)), place)
    with pytest.raises(ValueError, match=r"last\.safetensors.*; delete it to train from the start"):
        train(run)
    remove_checkpoints(checkpoint_of(run))
    train(run)
    assert all(torch.equal(tensor, weights_of(run)[name]) for name, tensor in weights_of(trained[0]).items())


@pytest.mark.parametrize("damage", ["flipped", "cut short", "missing"])
def test_the_checkpoint_before_a_damaged_one_is_used_and_ends_bit_identical(
    trained, tmp_path, monkeypatch, caplog, damage
):
    run = interrupted_run(tmp_path / "run", monkeypatch)
    last = checkpoint_of(run)
    if damage == "flipped":
        flip(last, 0.4)
    elif damage == "cut short":
        last.write_bytes(last.read_bytes()[:500])
    else:  # by a kill between the renaming of the last one and the writing of the next
        last.unlink()
    with caplog.at_level("INFO"):
        train(run)
    assert "continuing at step 6" in caplog.text
    named = "last.safetensors" in caplog.text and "previous.safetensors, the one before it, is used" in caplog.text
    assert named == (damage != "missing")
    assert all(torch.equal(tensor, weights_of(run)[name]) for name, tensor in weights_of(trained[0]).items())
    assert not list(last.parent.glob("*previous*")) and not last.exists()


def test_damaged_best_weights_of_a_training_in_progress_are_not_continued_from(tmp_path, monkeypatch):
    run = interrupted_run(tmp_path / "run", monkeypatch)
    flip(run.weights, 0.5)
    with pytest.raises(ValueError, match=r"best\.safetensors is damaged .*; delete the folder .*checkpoints to train"):
        train(run)


def test_equal_trainings_leave_equal_bytes(trained, tmp_path):
    other = run_of(recipe_of(), tmp_path / "run")
    train(other)
    assert other.weights.read_bytes() == trained[0].weights.read_bytes()


def test_a_damaged_summary_is_named_with_the_cure(restored):
    restored.trained.write_text('{"steps": 10, "val')
    for read in (train, load_student):
        with pytest.raises(
            ValueError, match=r"train\.json is damaged .*; delete it and the folder checkpoints in .*anew"
        ):
            read(restored)


def test_damaged_metrics_are_named_with_the_cure(restored):
    (restored.folder / "metrics.json").write_text("")
    for call in (restored.read_metrics, restored.update_metrics):
        with pytest.raises(ValueError, match=r"metrics\.json is damaged .*; delete it, and evaluate again"):
            call()
    (restored.folder / "metrics.json").unlink()


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"[3]", b'{"stage": "x"}', b'{"step": "3"}'])
def test_a_damaged_log_is_named_with_the_cure(tmp_path, line):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"step": 1, "validation_dice": 0.5}\n' + line + b"\n")
    for read in (read_log, read_validation, last_step):
        with pytest.raises(ValueError, match=r"log\.jsonl is damaged .*; delete that line, or the file: it records"):
            read(log)
    log.write_bytes(b'{"step": 1, "validation_dice": 0.5}\n' + line)
    assert read_validation(log) == {1: 0.5}, "a last line that a kill cut short is nothing"


@pytest.mark.parametrize(("sent", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_saves_a_checkpoint_and_the_training_goes_on(trained, tmp_path, monkeypatch, caplog, sent, error):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    run = run_of(recipe_of(), tmp_path / "run")
    step = training.train_step

    def terminated_at(state, span, number, *args, **named):
        if number == 4:
            os.kill(os.getpid(), sent)
        return step(state, span, number, *args, **named)

    exit_on_signals()
    try:
        with monkeypatch.context() as patch, pytest.raises(error) as leaving, caplog.at_level("INFO"):
            patch.setattr(training, "train_step", terminated_at)
            train(run)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert sent == signal.SIGINT or leaving.value.code == 143
    assert "saved step 5 of 10 in" in caplog.text
    assert checkpoint_of(run).is_file()
    caplog.clear()
    with caplog.at_level("INFO"):
        train(run)
    assert "continuing at step 5" in caplog.text
    assert all(torch.equal(tensor, weights_of(run)[name]) for name, tensor in weights_of(trained[0]).items())
    logs = [(one.folder / "log.jsonl").read_text() for one in (trained[0], run)]
    assert logs[0] == logs[1], "means are over the same steps"
