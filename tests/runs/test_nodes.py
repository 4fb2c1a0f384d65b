"""Several nodes on one shared file system: the result of one, folders that are listed late, ranks that die."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import SimpleNamespace

import pytest
from forked_jobs import finish, forked, launched, start_two
from small_extraction import CellTeacher, extraction_job
from small_job import result_of, write_job
from small_run import recipe_of, run_of

import cache
from distill.extraction.extract import extract, open_missing
from distill.extraction.plan import plan_extraction
from distill.runs import run as runs

STEPS = "do: [extract, train, evaluate]"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    for name in ("BANDPASS_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_two_nodes(folder):
    """Does the job by two launchers of one process each, as on two nodes; returns the process of them both."""
    port = free_port()

    def both():
        nodes = [forked(folder, lambda rank=rank: launched(folder, node=rank, port=port)) for rank in (0, 1)]
        with ThreadPoolExecutor() as threads:
            return max(os.waitstatus_to_exitcode(status) for _, status in threads.map(os.waitpid, nodes, (0, 0)))

    return forked(folder, both)


@pytest.mark.study
@pytest.mark.timeout(1200)
def test_two_nodes_end_with_the_bytes_of_two_processes_of_one(tmp_path):
    whole = []
    for name, start in (("one", start_two), ("two", start_two_nodes)):
        job = write_job(tmp_path / "job", tmp_path / "shared", STEPS)
        finish(job, start)
        whole.append(result_of(job))
        job.rename(tmp_path / name)
    assert whole[0].keys() == whole[1].keys()
    assert not [name for name in whole[0] if whole[0][name] != whole[1][name]]


class Late:
    """Fails so many times with FileNotFoundError, as on a node that lists a folder late."""

    def __init__(self, times):
        self.times, self.calls = times, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.times:
            raise FileNotFoundError("no file at x; type distill extract first")
        return "read"


def test_what_is_listed_late_is_waited_for_by_several_processes_and_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(runs, "PAUSE_SECONDS", 0.01)
    late, shared = Late(2), SimpleNamespace(accelerator=SimpleNamespace(num_processes=2))
    with caplog.at_level("INFO"):
        assert runs.Run.once_listed(shared, late) == "read"
    assert late.calls == 3
    assert caplog.text.count("waiting, because this machine may list the folder late: no file at x") == 2
    monkeypatch.setattr(runs, "LATE_SECONDS", 0.05)
    with pytest.raises(FileNotFoundError, match="no file at x; type distill extract first"):
        runs.Run.once_listed(shared, Late(10**9))
    alone = Late(1)
    with pytest.raises(FileNotFoundError):
        run_of(recipe_of(), tmp_path / "run").once_listed(alone)
    assert alone.calls == 1, "one process sees its own files at once"


def test_a_process_that_lists_fewer_shards_waits_until_it_lists_those_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("distill.extraction.extract"), "load_teacher", lambda *_: CellTeacher())
    monkeypatch.setattr(runs, "PAUSE_SECONDS", 0.01)
    run = extraction_job(tmp_path)
    extract(run)
    folder = run.caches["cells"]
    plan = plan_extraction(run, "cells")
    object.__setattr__(plan, "rank", 1)
    hidden, opened = sorted(folder.glob("shard-*"))[-1], cache.open
    data = hidden.read_bytes()
    hidden.unlink()
    calls = []

    def open_late(path, **named):
        calls.append(path)
        if len(calls) == 3:
            hidden.write_bytes(data)
        return opened(path, **named)

    monkeypatch.setattr(cache, "open", open_late)
    # The first process lists all shards.
    second = SimpleNamespace(accelerator=SimpleNamespace(num_processes=2), agree=lambda _: [])
    second.once_listed = lambda read: runs.Run.once_listed(second, read)
    _, shards = open_missing(second, plan)
    assert shards == [] and len(calls) == 3
