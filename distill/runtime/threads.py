"""The cores of this machine: how many there are, and who computes on how many of them.

Small work (an image resized, a map coded) belongs on one thread: with two, on a machine whose cores are busy, each
barrier waits for a thread that something else has displaced, and fitting a code took 44 times as long.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

MOST_WORKERS = 12
BUSY = 0.4  # of the cores: one busy process beside a job on two
STAT = Path("/proc/stat")


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def local_processes() -> int:
    """The number of processes of this job that share this machine, as launchers say it."""
    return _number_in("LOCAL_WORLD_SIZE") or 1


def own_cores() -> int:
    """This process's share of the cores."""
    return max(1, usable_cores() // local_processes())


def use_all_cores() -> None:
    """Shares the cores among this machine's processes, unless the user has set the number of threads.

    Launchers set OMP_NUM_THREADS=1, which is no wish of the user's.
    """
    torch.set_num_threads(threads_asked() or own_cores())


def threads_asked() -> int:
    """The number of threads of one process that the user has set in the environment; 0: none."""
    own, launched = (_number_in(name) for name in ("BANDPASS_THREADS", "OMP_NUM_THREADS"))
    return own or (launched if launched > 1 else 0)


def advice_beside_others(device: torch.device) -> str:
    """A sentence where a network computes on cores that other work keeps busy, so that threads wait; else nothing."""
    if device.type != "cpu" or threads_asked() or own_cores() == 1 or (share := busy_share()) < BUSY:
        return ""
    return (
        f"other work keeps {share:.0%} of these cores busy, so that threads wait for one another: with "
        f"BANDPASS_THREADS={max(1, int(own_cores() * (1 - share)))} in the environment this may be faster"
    )


def busy_share(seconds: float = 0.3) -> float:
    """The share of this process's cores, 0 to 1, that others keep busy while it waits; 0 but on Linux."""
    try:
        before = _processor_times()
        time.sleep(seconds)
        idle, whole = (after - first for after, first in zip(_processor_times(), before, strict=True))
    except (OSError, ValueError, AttributeError):
        return 0.0
    return 1 - idle / whole if whole > 0 else 0.0


def _processor_times() -> tuple[int, int]:
    """The time that this process's cores have been idle, and all their time, in ticks since the machine started."""
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = map(str.split, STAT.read_text(encoding="ascii").splitlines())
    ticks = [[int(word) for word in words[1:9]] for words in lines if words[:1] and words[0] in mine]
    return sum(one[3] + one[4] for one in ticks), sum(map(sum, ticks))


def _number_in(variable: str) -> int:
    """The number that a variable of the environment holds, of a list (`4,2`, as OpenMP takes it) the first; else 0."""
    said = os.environ.get(variable, "").split(",")[0].strip()
    return int(said) if said.isdecimal() else 0


def workers_beside(device: torch.device, *, asked: int | None = None, cores: int | None = None) -> int:
    """Processes that load or code beside a device: as asked, else none on a CPU and all cores but one elsewhere.

    Two bring 150 images of 352 px with their targets to an H100 in a second (LOG.md). They are forked, which macOS's
    frameworks do not survive once they are in use: there none, unless they are asked for.

    Args:
        device: where the network computes.
        asked: how many are requested.
        cores: to share; where not given, this process's own: as many as it has threads.
    """
    if asked is not None:
        return asked
    if device.type == "cpu" or sys.platform != "linux":
        return 0
    return max(1, min(MOST_WORKERS, (cores or torch.get_num_threads()) - 1))


def small_workers(threads: int) -> ThreadPoolExecutor:
    """Threads for small work, each of which computes on itself alone."""
    torch.get_num_threads()  # a thread that has not run torch yet would later take the number set last, by whomever
    return ThreadPoolExecutor(threads, initializer=compute_alone)


def compute_alone(*_: object) -> None:
    """This thread (or worker process) computes on itself alone; others keep what they have."""
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Small work in the calling thread, which has its threads back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
