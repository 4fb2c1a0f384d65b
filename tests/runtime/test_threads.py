"""Threads that wait: what the command line asks of OpenMP, before torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from distill.runtime import threads

ASKED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, [None, "1000", "0"]),
        ({"GOMP_SPINCOUNT": "5"}, [None, "5", "0"]),
        ({"OMP_WAIT_POLICY": "active"}, ["active", None, None]),
    ],
)
def test_waiting_threads_sleep_early_unless_the_user_says_otherwise(own, expected):
    script = f"import json, os, distill.run; print(json.dumps([os.environ.get(name) for name in {ASKED}]))"
    others = {name: value for name, value in os.environ.items() if name not in ASKED}
    finished = subprocess.run([sys.executable, "-c", script], env=others | own, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == expected


def ticks(*, idle, busy):
    """Two cores of this process that have done the same, and one of others."""
    lines = [f"{name} {busy} 0 0 {idle} 0 0 0 0 0 0" for name in ("cpu0", "cpu1")]
    return "\n".join(["cpu  1 2 3 4 5 6 7 8", *lines, "cpu2 5 0 0 7 0 0 0 0 0 0", "intr 1 2 3", ""])


@pytest.mark.parametrize(
    ("busy", "says", "advises"), [(10, "", ""), (60, "other work keeps 60% of these cores busy", "BANDPASS_THREADS=3 ")]
)
def test_fewer_threads_are_advised_where_others_keep_the_cores_busy(tmp_path, monkeypatch, busy, says, advises):
    stat = tmp_path / "stat"
    stat.write_text(ticks(idle=1000, busy=500))
    monkeypatch.setattr(threads, "STAT", stat)
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(threads.time, "sleep", lambda _: stat.write_text(ticks(idle=1100 - busy, busy=500 + busy)))
    for name in ("BANDPASS_THREADS", "OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    advice = threads.advice_beside_others(torch.device("cpu"))
    assert advice.startswith(says) and advises in advice and bool(advice) == bool(says)
    assert threads.advice_beside_others(torch.device("meta")) == "", "no core computes"
    monkeypatch.setenv("BANDPASS_THREADS", "2")
    assert threads.advice_beside_others(torch.device("cpu")) == "", "the user has chosen"


def test_a_machine_that_does_not_say_how_busy_it_is_counts_as_idle(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "STAT", tmp_path / "absent")
    assert threads.busy_share(0) == 0
