"""The cores of this machine, and their use by processes and threads.

Small work (resizing an image, coding a map) belongs on one thread. With two threads on a machine whose cores are busy,
each barrier waits for a thread that other work has displaced: fitting a code took 44 times as long.
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
BUSY = 0.4  # of the cores: as one busy process beside a job on two cores
STAT = Path("/proc/stat")


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def local_processes() -> int:
    """The number of processes of this job that share this machine, as the launcher says."""
    return _number_in("LOCAL_WORLD_SIZE") or 1


def own_cores() -> int:
    """This process's share of the cores."""
    return max(1, usable_cores() // local_processes())


def use_all_cores() -> None:
    """Shares the cores among this machine's processes, unless the user has set the number of threads.

    OMP_NUM_THREADS=1 does not count, because launchers set it.
    """
    torch.set_num_threads(threads_asked() or own_cores())


def threads_asked() -> int:
    """The number of threads per process that the user has set in the environment; 0 if not set."""
    own, launched = (_number_in(name) for name in ("BANDPASS_THREADS", "OMP_NUM_THREADS"))
    return own or (launched if launched > 1 else 0)


def advice_beside_others(device: torch.device) -> str:
    """A sentence of advice if a network computes on cores that other work keeps busy; else empty."""
    if device.type != "cpu" or threads_asked() or own_cores() == 1 or (share := busy_share()) < BUSY:
        return ""
    return (
        f"other work keeps {share:.0%} of these cores busy, so threads wait for one another; this may be faster with "
        f"BANDPASS_THREADS={max(1, int(own_cores() * (1 - share)))} in the environment"
    )


def busy_share(seconds: float = 0.3) -> float:
    """The share of this process's cores, 0 to 1, that others keep busy while it waits; 0 except on Linux."""
    try:
        before = _processor_times()
        time.sleep(seconds)
        idle, whole = (after - first for after, first in zip(_processor_times(), before, strict=True))
    except (OSError, ValueError, AttributeError):
        return 0.0
    return 1 - idle / whole if whole > 0 else 0.0


def _processor_times() -> tuple[int, int]:
    """The idle time and the total time of this process's cores, in ticks since the machine started."""
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = map(str.split, STAT.read_text(encoding="ascii").splitlines())
    ticks = [[int(word) for word in words[1:9]] for words in lines if words[:1] and words[0] in mine]
    return sum(one[3] + one[4] for one in ticks), sum(map(sum, ticks))


def _number_in(variable: str) -> int:
    """The number in an environment variable, or the first of a list (`4,2`, as OpenMP allows); else 0."""
    said = os.environ.get(variable, "").split(",")[0].strip()
    return int(said) if said.isdecimal() else 0


def workers_beside(device: torch.device, *, asked: int | None = None, cores: int | None = None) -> int:
    """The number of processes that load or code beside a device: `asked`, else 0 on a CPU and one less than the cores.

    Two bring 150 images of 352 px with their targets to an H100 in a second (LOG.md). They are forked, which macOS's
    frameworks do not survive once they are in use; there the number is 0 unless asked for.

    Args:
        device: where the network computes.
        asked: the number requested by the user.
        cores: to share; by default as many as this process has threads.
    """
    if asked is not None:
        return asked
    if device.type == "cpu" or sys.platform != "linux":
        return 0
    return max(1, min(MOST_WORKERS, (cores or torch.get_num_threads()) - 1))


def small_workers(threads: int) -> ThreadPoolExecutor:
    """A pool of threads for small work, each computing single-threaded."""
    torch.get_num_threads()  # a thread that has not used torch yet would later take whatever number was set last
    return ThreadPoolExecutor(threads, initializer=compute_alone)


def compute_alone(*_: object) -> None:
    """Makes this thread (or worker process) compute single-threaded; others are unaffected."""
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Makes torch single-threaded for small work, and restores the number of threads afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
