"""Processes wait for each other for longer than a collective would, and are told whom they wait for."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
from accelerate import Accelerator
from forked_jobs import forked
from torch.distributed import HashStore
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from distill.runs import barrier
from distill.runs.barrier import meet, wait_for_all


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
    with caplog.at_level("INFO"), pytest.raises(TimeoutError, match="process 0 has waited 0 minutes for 2, 3; see"):
        meet(store, "a", rank=0, processes=4)
    assert "process 0 has waited 0 minutes for 2, 3" in caplog.text


def wait_long(folder):
    """One of two processes, of which the first comes after the timeout of their collectives."""
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=2))
    accelerator = Accelerator(cpu=True)
    time.sleep(4 * accelerator.is_main_process)
    wait_for_all(accelerator)
    wait_for_all(accelerator)
    (folder / f"done{accelerator.process_index}").touch()
    torch.distributed.destroy_process_group()


def test_the_first_process_may_take_longer_than_a_collective_waits(tmp_path):
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        run_id="barrier",
        start_method="fork",
        max_restarts=0,
        local_addr="127.0.0.1",
        monitor_interval=0.1,
    )
    job = forked(tmp_path, lambda: elastic_launch(settings, wait_long)(tmp_path) and 0)
    os.waitpid(job, 0)
    assert sorted(path.name for path in tmp_path.glob("done*")) == ["done0", "done1"], (tmp_path / "log").read_text()
