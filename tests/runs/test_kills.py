"""SIGKILLs over a whole job, alone and by two processes: continued, it ends with the bytes of an undisturbed one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
from small_job import STEPS, do_job, result_of, write_job
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

PRELOADED = ("timm", "onnx", "onnxscript", "onnxruntime", "matplotlib.pyplot", "torchvision", "distill.run")
LONG = 600.0  # seconds, after which something hangs


def start_alone(folder):
    """Does the job in a child of this process, which has the libraries loaded."""
    return forked(folder, lambda: do_job(folder))


def start_two(folder):
    """Does the job in two processes of torchrun's agent, which forks them."""
    return forked(folder, lambda: launched(folder))


def launched(folder):
    """What `torchrun --standalone --nproc_per_node 2` does, but for forking; returns the exit status."""
    settings = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0",
        run_id=folder.name, start_method="fork", local_addr="127.0.0.1", monitor_interval=0.1,
    )  # fmt: skip
    return max(elastic_launch(settings, do_job)(folder).values())


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
    times = [marks(folder)[f"{name}0"].stat().st_mtime for name in (*STEPS, "done")]
    return {name: times[place + 1] - times[place] for place, name in enumerate(STEPS)}


def kill_once(folder, start, step, seconds, whom):
    """Does the job until so many seconds after a step has begun, and kills it; returns the step it was in, or "".

    Args:
        folder: of the job.
        start: what starts it.
        step: after whose beginning.
        seconds: of waiting after it.
        whom: rank 0 or 1, "launcher", or "all".
    """
    forget_marks(folder)
    process = start(folder)
    if until(lambda: f"{step}0" in marks(folder), process=process) is not None:
        raise AssertionError((folder / "log").read_text()[-3000:])
    limit = time.monotonic() + seconds
    if until(lambda: time.monotonic() > limit, process=process) is not None:
        return ""
    at = max((name for name in STEPS if f"{name}0" in marks(folder)), key=STEPS.index)
    ranks = pids_of(folder)
    if whom in ("launcher", "all"):
        os.kill(process, signal.SIGKILL)
    for rank, pid in enumerate(ranks):
        if whom in (rank, "all") and pid != process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    status = until(lambda: False, process=process)
    until(lambda: not any(map(is_alive, ranks)))
    assert time.monotonic() - began < 120, "the others ended too late"
    return at if status != 0 else ""


def kill_and_continue(folder, start, *, whole, seconds, kills, draw, whom=("all",)):
    """Kills a job so many times, spread over its steps, and continues it to its end; returns the steps hit."""
    steps = sorted((STEPS[number % len(STEPS)] for number in range(kills)), key=STEPS.index)
    hit = [kill_once(folder, start, step, draw.uniform(0, seconds[step]), draw.choice(whom)) for step in steps]
    finish(folder, start)
    found = result_of(folder)
    assert found.keys() == whole.keys()
    assert not (other := [name for name in whole if found[name] != whole[name]]), [found[name] for name in other]
    return [step for step in hit if step]


def campaign(folder, start, *, kills, a_job, seed, whom=("all",)):
    """Jobs killed `a_job` times each, until there were so many kills; returns how many fell into each step."""
    draw, hit = random.Random(seed), Counter()
    straight = write_job(folder / "job", folder / "shared")
    seconds = finish(straight, start)
    whole = result_of(straight)
    straight.rename(folder / "straight")  # each job has the same paths, which recipes hold
    number = 0
    while hit.total() < kills:
        job = write_job(folder / "job", folder / "shared")
        count = min(a_job, kills - hit.total())
        hit.update(kill_and_continue(job, start, whole=whole, seconds=seconds, kills=count, draw=draw, whom=whom))
        job.rename(folder / f"job{number}")
        number += 1
    return hit, number


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("BANDPASS_THREADS", "1")


def test_a_job_killed_in_each_step_ends_with_the_same_bytes(tmp_path):
    hit, _ = campaign(tmp_path, start_alone, kills=4, a_job=4, seed=0)
    assert hit.total() == 4


@pytest.mark.study
@pytest.mark.timeout(14_400)
def test_eighty_kills_of_whole_jobs(tmp_path, capsys):
    hit, jobs = campaign(tmp_path, start_alone, kills=80, a_job=20, seed=1)
    tell(capsys, f"{hit.total()} SIGKILLs over {jobs} jobs of one process, by step: {dict(hit)}; all bit-identical")
    assert min(hit[step] for step in STEPS) > 0


@pytest.mark.study
@pytest.mark.timeout(14_400)
def test_twenty_kills_of_whole_jobs_of_two_processes(tmp_path, capsys):
    hit, jobs = campaign(tmp_path, start_two, kills=20, a_job=10, seed=2, whom=(0, 1, "launcher", "all"))
    tell(capsys, f"{hit.total()} SIGKILLs over {jobs} jobs of two processes, by step: {dict(hit)}; all bit-identical")
    assert min(hit[step] for step in STEPS) > 0


def tell(capsys, sentence):
    with capsys.disabled():
        sys.stdout.write(f"\n{sentence}\n")
