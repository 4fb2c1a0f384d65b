"""Coding beside the teacher: in a thread or in processes, with the same bytes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from cache.spec import MapSpec
from distill.bench.inputs import drawn_maps, write_cache
from distill.extraction.encode import Encoders
from distill.runtime.threads import one_thread, small_workers, usable_cores, use_all_cores, workers_beside

FORKS = pytest.mark.skipif(sys.platform != "linux", reason="processes that code are forked")
ENTRY = MapSpec("drawn", 8, (12, 12), stride=16)


@pytest.fixture
def store(tmp_path):
    maps = drawn_maps(16, ENTRY)
    return write_cache(tmp_path / "cache", {ENTRY: maps}, keys=[f"{n:064x}" for n in range(16)])


@FORKS
def test_processes_code_what_a_thread_codes(store):
    maps = drawn_maps(24, ENTRY, seed=1)
    found = {}
    for processes in (2, 0):  # a thread that ends while another process is forked may leave it a lock of MKL's
        with Encoders(store, processes=processes) as encoders:
            pending = [encoders.submit((f"{n:064x}", "identity"), {"drawn": maps[n]}) for n in range(24)]
            found[processes] = [future.result() for future in pending]
    assert found[0] == found[2]
    assert found[0][3][0] == (f"{3:064x}", "identity", {"drawn": store.codecs["drawn"].encode(maps[3])})


@FORKS
def test_an_error_of_a_coding_process_reaches_the_extraction(store):
    with Encoders(store, processes=1) as encoders:
        damaged = encoders.submit(("0" * 64, "identity"), {"drawn": torch.full((8, 12, 12), float("nan"))})
        with pytest.raises(
            ValueError, match=r"no code for map 'drawn' of image 000000000000 under .*infinite, undefin"
        ):
            damaged.result()


@FORKS
def test_coding_processes_leave_with_a_killed_extraction(store, tmp_path):
    script = textwrap.dedent(f"""
        import multiprocessing, time, cache
        from distill.extraction.encode import Encoders
        with Encoders(cache.open({str(store.path)!r}), processes=2):
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    children = [int(number) for number in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 20
    while any(is_alive(child) for child in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(is_alive(child) for child in children)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def test_a_teacher_on_a_cpu_keeps_the_cores():
    assert workers_beside(torch.device("cpu")) == 0


def test_where_forking_is_unsafe_a_thread_codes(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert workers_beside(torch.device("mps")) == 0


@pytest.mark.parametrize(
    ("said", "threads"), [("4,2", 4), (" 3 ", 3), ("", None), ("1", None), ("1,1", None), ("0", None), ("many", None)]
)
def test_threads_are_as_the_user_says_or_all_cores(monkeypatch, said, threads):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.delenv("BANDPASS_THREADS", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    use_all_cores()
    monkeypatch.setenv("BANDPASS_THREADS", "1")
    use_all_cores()
    assert asked == [threads or usable_cores(), 1]


def test_beside_a_gpu_the_cores_load_and_code(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    for threads, expected in ((1, 1), (2, 1), (8, 7), (64, 12)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert workers_beside(gpu) == expected
        assert workers_beside(gpu, asked=None) == expected
    assert workers_beside(cpu, asked=None) == 0
    assert workers_beside(gpu, asked=0) == 0
    assert workers_beside(cpu, asked=3) == 3


def test_small_work_takes_one_thread_and_leaves_the_others_theirs():
    torch.set_num_threads(2)
    with small_workers(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == 2
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
