"""Memory that is freed is kept: its pages are not cleared again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

AGAIN = """
import resource, sys
import torch
from distill.runtime.freed_memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(20):  # the first ones grow the heap, since small objects settle in what was freed
    before = faults()
    torch.ones(1 << 24)  # 64 MiB, freed at once
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_what_is_freed_is_not_cleared_again():
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", AGAIN, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "plain")
    )
    assert kept < 100 < given_back
