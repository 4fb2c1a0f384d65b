"""Processes wait for each other for longer than a collective would, and are told whom they wait for."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch.distributed import HashStore

from distill.runs import barrier
from distill.runs.barrier import meet

REPOSITORY = Path(__file__).resolve().parents[2]


def test_none_goes_on_before_all_are_there():
    store, order = HashStore(), []

    def come(rank):
        time.sleep(0.1 * rank)
        order.append(f"comes {rank}")
        meet(store, "a", rank=rank, processes=3)
        order.append("goes on")

    with ThreadPoolExecutor() as threads:
        list(threads.map(come, range(3)))
    assert order == [*(f"comes {rank}" for rank in range(3)), *["goes on"] * 3]


def test_who_waits_is_told_for_whom_and_not_for_ever(monkeypatch, caplog):
    monkeypatch.setattr(barrier, "TELL_SECONDS", 0.05)
    monkeypatch.setattr(barrier, "LONGEST_SECONDS", 0.2)
    store = HashStore()
    store.set("a/1", "")
    with (
        caplog.at_level("INFO"),
        pytest.raises(TimeoutError, match="process 0 has waited 0 minutes for 2, 3; find"),
    ):
        meet(store, "a", rank=0, processes=4)
    assert "process 0 has waited 0 minutes for 2, 3" in caplog.text


SCRIPT = """
import os, sys, time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from torch import distributed
from distill.runs.barrier import wait_for_all

rank, folder = int(sys.argv[1]), Path(sys.argv[2])

def both(name):
    (folder / f"{name}{rank}").touch()
    while not all((folder / f"{name}{other}").exists() for other in (0, 1)):
        time.sleep(0.05)

both("loaded")  # under load one takes longer than the timeout for it
store, limit = f"file://{folder}/store", timedelta(seconds=5)
distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=limit)
time.sleep(8 * (rank == 0))
wait_for_all(SimpleNamespace(num_processes=2, process_index=rank, wait_for_everyone=distributed.barrier))
both("done")
os._exit(0)
"""


def test_the_first_process_may_take_longer_than_a_collective_waits(tmp_path):
    words = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    jobs = [subprocess.Popen([*words, str(rank), str(tmp_path)], cwd=REPOSITORY) for rank in (0, 1)]
    try:
        assert [job.wait(timeout=240) for job in jobs] == [0, 0]
    finally:
        for job in jobs:
            job.kill()
