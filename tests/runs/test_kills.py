"""SIGKILLs over a whole job, alone and by two processes: continued, it ends with the bytes of an undisturbed one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter

import pytest
from forked_jobs import finish, forget_marks, is_alive, marks, pids_of, start_alone, start_two, until
from small_job import STEPS, result_of, write_job


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
    assert whom == "all" or time.monotonic() - began < 120, "the others ended too late"
    return at if status != 0 else ""


def kill_and_continue(folder, start, *, whole, seconds, kills, draw, whom=("all",)):
    """Kills a job so many times, spread over its steps, and continues it to its end; returns the steps hit."""
    steps = sorted((tuple(seconds)[number % len(seconds)] for number in range(kills)), key=STEPS.index)
    hit = [kill_once(folder, start, step, draw.uniform(0, seconds[step]), draw.choice(whom)) for step in steps]
    finish(folder, start)
    found = result_of(folder)
    assert found.keys() == whole.keys()
    assert not (other := [name for name in whole if found[name] != whole[name]]), [found[name] for name in other]
    return [step for step in hit if step]


def campaign(folder, start, *, kills, a_job, seed, whom=("all",), steps=STEPS):
    """Jobs killed `a_job` times each, until there were so many kills; returns how many fell into each step."""
    draw, hit = random.Random(seed), Counter()
    more = f"do: [{', '.join(steps)}]"
    for name in ("first", "straight"):  # the first exports to ONNX, and would say wrongly how long publishing takes
        straight = write_job(folder / "job", folder / "shared", more)
        seconds = finish(straight, start)
        whole = result_of(straight)
        straight.rename(folder / name)  # each job has the same paths, which recipes hold
    number = 0
    while hit.total() < kills:
        job = write_job(folder / "job", folder / "shared", more)
        count = min(a_job, kills - hit.total())
        hit.update(kill_and_continue(job, start, whole=whole, seconds=seconds, kills=count, draw=draw, whom=whom))
        job.rename(folder / f"job{number}")
        number += 1
    return hit, number


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    for name in ("BANDPASS_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


@pytest.mark.study
@pytest.mark.timeout(1200)
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
