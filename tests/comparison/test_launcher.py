from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from importlib import import_module

import pytest
import torch

from distill.cli.run import require_planned
from distill.comparison.launcher import Processes, advice_on_jobs, left_on_sigterm, places_for, run_missing
from distill.comparison.plan import plan_comparison
from distill.config.parse import read_recipe
from distill.runs.run import Run
from distill.training.jsonl_log import last_step

module = import_module("distill.comparison.launcher")
WORDS = [
    "stages.semantic.steps=60",
    "stages.boundary.epochs=0",
    "arms={baseline: {}, distilled: {optimiser: {ema: 0.5}}}",
]


def runs_in(home, *words, seeds=(0, 1)):
    recipe = read_recipe(["recipe=sam_to_unet", *WORDS, *words, f"home={home}"])
    return plan_comparison(recipe, students=["unet"], seeds=seeds).runs


def until(true, seconds=30.0):
    limit = time.monotonic() + seconds
    while not true() and time.monotonic() < limit:
        time.sleep(0.01)


def test_settings_that_ask_for_the_same_share_one_run(tmp_path, monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr(module, "run_one", lambda one, *_, **__: ran.append(f"{one.arm} {one.seed}") or "")
    run_missing(runs_in(tmp_path, "sweep={one: {}, same: {}}"), jobs=1)
    assert ran == ["baseline 0", "distilled 0", "baseline 1", "distilled 1"]


def test_what_is_tested_already_is_not_run_again_and_what_is_trained_is_tested(tmp_path, monkeypatch):
    ran: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(module, "run_one", lambda one, *_, verbs, **__: ran.append((one.title, verbs)) or "")
    runs = runs_in(tmp_path, seeds=[0])
    for one in runs:
        one.run.folder.mkdir(parents=True)
        one.run.trained.write_text("{}")
    monkeypatch.setattr(Run, "is_evaluated", lambda run: run.folder == runs[0].run.folder)
    runs = runs_in(tmp_path, seeds=[0])
    run_missing(runs, jobs=2, verbs=("train",))
    assert not ran
    run_missing(runs, jobs=2)
    assert ran == [("distilled unet seed 0", ("train", "evaluate"))]


def test_a_process_of_a_comparison_does_only_the_run_that_was_planned(tmp_path, monkeypatch):
    (one, *_) = runs_in(tmp_path, seeds=[0])
    told: dict[str, dict] = {}
    monkeypatch.setattr(Processes, "run", lambda *args, env: told.update(env=env) or 0)
    assert module.run_one(one, Processes(), jobs=1, verbs=["train"]) == ""
    assert told["env"]["BANDPASS_RUN"] == one.run.folder.name
    monkeypatch.setenv("BANDPASS_RUN", one.run.folder.name)
    require_planned(one.run)
    monkeypatch.setenv("BANDPASS_RUN", "sam_to_unet-unet-0123456789ab")
    with pytest.raises(
        ValueError, match=r"data has changed since the comparison was planned: it now makes the run sam_"
    ):
        require_planned(one.run)


def test_several_gpus_are_shared_among_the_runs(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert places_for(3) == ["4", "6", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    assert places_for(2) == [None, None]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert places_for(2) == ["0", "1"]


def test_beside_a_gpu_several_runs_at_once_are_advised_where_there_are_cores_for_them(monkeypatch):
    gpu, said = torch.device("cuda"), []
    for cores, runs in ((16, 6), (16, 3), (4, 6), (16, 1)):
        monkeypatch.setattr(module, "usable_cores", lambda cores=cores: cores)
        said.append(advice_on_jobs(gpu, runs=runs))
        assert not advice_on_jobs(torch.device("cpu"), runs=runs)
    assert ["jobs=4 " in said[0], "jobs=3 " in said[1], said[2], said[3]] == [True, True, "", ""]


@pytest.mark.parametrize(("asked", "given"), [(None, "4"), ("1", "1"), ("3", "3"), ("8", "4")])
def test_runs_share_the_cores_unless_the_user_has_set_fewer_threads(tmp_path, monkeypatch, asked, given):
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(module, "usable_cores", lambda: 8)
    monkeypatch.setattr(Processes, "run", lambda self, folder, command, *, env: seen.append(env) or 0)
    for name in ("BANDPASS_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if asked:
        monkeypatch.setenv("BANDPASS_THREADS", asked)
    run_missing(runs_in(tmp_path, seeds=[0]), jobs=2)
    assert {(env["BANDPASS_THREADS"], env["OMP_NUM_THREADS"]) for env in seen} == {(given, given)}


def test_the_output_of_a_run_that_failed_is_told_whatever_its_bytes(tmp_path, monkeypatch):
    def fail(self, folder, command, *, env):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "output.txt").write_bytes(b"caf\xe9 is closed\n")
        return 1

    monkeypatch.setattr(Processes, "run", fail)
    with pytest.raises(RuntimeError, match="is closed"):
        run_missing(runs_in(tmp_path, seeds=[0]), jobs=1)


def test_the_last_step_is_that_of_the_last_whole_line(tmp_path):
    log = tmp_path / "log.jsonl"
    assert last_step(log) == 0
    log.write_text('{"step": 2')
    assert last_step(log) == 0
    log.write_text('{"step": 25, "loss": 1.0}\n{"step": 50, "loss": 0.5}\n{"step": 75, "lo')
    assert last_step(log) == 50


def test_it_tells_how_far_the_runs_are_and_what_remains(tmp_path, monkeypatch, caplog):
    def run(one, processes, **_):
        with processes.guard:
            processes.running[one.run.folder] = None
        one.run.folder.mkdir(parents=True)
        for step, said in ((30, "at 30"), (60, "is tested")):
            (one.run.folder / "log.jsonl").write_text(json.dumps({"step": step}) + "\n")
            until(lambda said=said: f"{one.title} {said}" in caplog.text)
        with processes.guard:
            del processes.running[one.run.folder]
        if one.arm == "distilled":
            raise OSError("no space left on device")
        return ""

    monkeypatch.setattr(module, "run_one", run)
    monkeypatch.setattr(module, "LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(module, "LINE_EVERY_SECONDS", 0.0)
    with (
        caplog.at_level("INFO", logger="bandpass"),
        pytest.raises(RuntimeError, match="distilled unet seed 0: no space"),
    ):
        run_missing(runs_in(tmp_path, seeds=[0]), jobs=1)
    said = [record.message for record in caplog.records]
    assert "compare 1/2 runs, baseline unet seed 0" in said
    assert "compare 2/2 runs, distilled unet seed 0 FAILED" in said
    assert any(re.fullmatch(r"compare 90/120 steps, .*/s, .* left, distilled unet seed 0 at 30", line) for line in said)
    assert any(
        re.fullmatch(r"compare 120/120 steps, .*/s, took .*, distilled unet seed 0 is tested", line) for line in said
    )


def test_what_is_interrupted_ends_the_runs_it_started_and_starts_no_other(tmp_path, monkeypatch):
    started: list[str] = []

    def run(one, processes, **_):
        one.run.folder.mkdir(parents=True)
        started.append(one.title)
        return str(processes.run(one.run.folder, [sys.executable, "-c", "import time; time.sleep(60)"], env={}))

    def terminate():
        until(lambda: started)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(module, "run_one", run)
    before, began = signal.getsignal(signal.SIGTERM), time.monotonic()
    threading.Thread(target=terminate).start()
    with pytest.raises(SystemExit, match="143"):
        run_missing(runs_in(tmp_path), jobs=1)
    assert time.monotonic() - began < 30
    assert started == ["baseline unet seed 0"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_that_comes_after_the_end_is_not_started(tmp_path):
    processes = Processes()
    processes.end()
    assert processes.run(tmp_path, [sys.executable, "-c", "open('started', 'w')"], env={}) == -signal.SIGTERM
    assert not (tmp_path / "started").exists()
    assert processes.folders() == []


def test_a_thread_that_compares_leaves_the_handlers_of_signals_alone():
    before, found = signal.getsignal(signal.SIGTERM), []

    def enter():
        with left_on_sigterm():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]
