"""Threads that wait: what the command line asks of OpenMP, before torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

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
