"""Whole jobs done in child processes of the tests, which have the libraries loaded, alone or by torchrun's agent."""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from importlib import import_module
from pathlib import Path

from small_job import STEPS, do_job
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

PRELOADED = ("timm", "onnx", "onnxscript", "onnxruntime", "matplotlib.pyplot", "torchvision", "distill.run")
LONG = 600.0  # seconds, after which something hangs


def start_alone(folder):
    """Does the job in a child of this process, which has the libraries loaded."""
    return forked(folder, lambda: do_job(folder))


def start_two(folder):
    """Does the job in two processes of torchrun's agent, which forks them."""
    return forked(folder, lambda: launched(folder))


def launched(folder, *, node=None, port=0, work=do_job):
    """Does what torchrun does, but for forking; returns the exit status.

    Args:
        folder: of the job.
        node: None, as `torchrun --standalone --nproc_per_node 2`; else the rank of one of two nodes, as
            `torchrun --nnodes 2 --node_rank RANK --master_port PORT --nproc_per_node 1`.
        port: of the first node.
        work: of each process, which is given the folder and returns its exit status.
    """
    alone = node is None
    settings = LaunchConfig(
        min_nodes=1 if alone else 2,
        max_nodes=1 if alone else 2,
        nproc_per_node=2 if alone else 1,
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_configs={} if alone else {"rank": node},
        run_id=folder.name,
        start_method="fork",
        max_restarts=0,
        local_addr="127.0.0.1",
        monitor_interval=0.1,
    )
    return max(elastic_launch(settings, work)(folder).values())


def forked(folder, work):
    """Does work that returns an exit status in a child, whose output goes to the file log; returns its process id."""
    for name in PRELOADED:
        import_module(name)
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        sys.stdout = sys.stderr = os.fdopen(log, "w")
        warnings.simplefilter("ignore")  # which are errors in tests
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def until(true, *, process=None):
    """Waits until it is true; returns the exit status of a process that ended before, else None."""
    limit = time.monotonic() + LONG
    while not true():
        if process is not None and (ended := os.waitpid(process, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])
        assert time.monotonic() < limit, "it hangs"
        time.sleep(0.002)
    return None


def marks(folder):
    return {path.name: path for path in (folder / "marks").glob("*")} if (folder / "marks").is_dir() else {}


def forget_marks(folder):
    for path in marks(folder).values():
        path.unlink()


def is_alive(pid):
    """Whether a process is there, and no zombie that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids_of(folder):
    return [int(path.read_text() or 0) for name, path in marks(folder).items() if name.startswith("pid")]


def finish(folder, start):
    """Does the job to its end; returns the seconds that each step took."""
    forget_marks(folder)
    process = start(folder)
    assert until(lambda: False, process=process) == 0, (folder / "log").read_text()[-3000:]
    done = [name for name in STEPS if f"{name}0" in marks(folder)]
    times = [marks(folder)[f"{name}0"].stat().st_mtime for name in (*done, "done")]
    return {name: times[place + 1] - times[place] for place, name in enumerate(done)}
