"""The missing runs of a comparison, several at once, each in its own process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import torch

from distill.comparison.runs import ArmRun
from distill.config.parse import write_recipe
from distill.runtime.progress import Progress
from distill.runtime.signals import LAUNCHED, PLANNED, leave
from distill.runtime.threads import threads_asked, usable_cores
from distill.training.jsonl_log import last_step

TAIL_LINES = 5  # of a failed run's output, in the error
LOOK_EVERY_SECONDS = 2.0
LINE_EVERY_SECONDS = 60.0  # without a terminal: comparisons take hours
CORES_OF_A_JOB = 4  # with a GPU: one for the training process, the others load data

logger = logging.getLogger("bandpass")


def run_missing(runs: Sequence[ArmRun], *, jobs: int, verbs: Sequence[str] = ("train", "evaluate")) -> None:
    """Does `verbs` for the runs that lack them, `jobs` at a time, each in its own process.

    If interrupted or terminated, it ends the runs that it has started; they resume later from their checkpoints.

    Raises:
        RuntimeError: some runs failed; each is named with the end of its output.
    """
    missing = missing_of(runs, verbs=verbs)
    there = len({one.run.folder for one in runs}) - len(missing)
    if there:
        logger.info("%d of %d runs are done already", there, there + len(missing))
    if not missing:
        return
    failed: list[str] = []
    places: SimpleQueue[str | None] = SimpleQueue()
    for place in places_for(jobs):
        places.put(place)
    processes = Processes()

    def run(one: ArmRun) -> str:
        place = places.get()
        try:
            return run_one(one, processes, jobs=jobs, verbs=verbs, gpu=place)
        except OSError as error:
            return str(error)
        finally:
            places.put(place)

    total, done = sum(one.steps for one in missing), steps_done(missing)
    with (
        left_on_sigterm(),
        Progress("compare", total=total, unit="steps", done=done, line_every=LINE_EVERY_SECONDS) as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        waiting: dict[Future[str], ArmRun] = {}
        try:
            waiting.update((pool.submit(run, one), one) for one in missing)
            while waiting:
                finished, _ = wait(waiting, timeout=LOOK_EVERY_SECONDS, return_when=FIRST_COMPLETED)
                for future in finished:
                    one = waiting.pop(future)
                    if error := future.result():
                        failed.append(f"{one.title}: {error}")
                    bar.say(
                        f"compare {len(missing) - len(waiting)}/{len(missing)} runs, {one.title}"
                        + (" FAILED" if error else "")
                    )
                under_way = processes.folders()
                note = "; ".join(where_it_stands(one) for one in missing if one.run.folder in under_way)
                bar.update(max(0, steps_done(missing) - bar.done), note)
        finally:  # has an effect only after an interruption
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end()
    if failed:
        raise RuntimeError(
            "these runs failed; the others are kept, and the same command does what is missing\n" + "\n".join(failed)
        )


def missing_of(runs: Sequence[ArmRun], *, verbs: Sequence[str]) -> list[ArmRun]:
    """The runs for which `verbs` have not been done yet; settings that ask for the same run share it."""
    asked: dict[Path, ArmRun] = {}
    for one in runs:
        asked.setdefault(one.run.folder, one)
    return [one for one in asked.values() if not one.has(verbs)]


def steps_done(runs: Sequence[ArmRun]) -> int:
    """The total number of steps that these runs have reported."""
    return sum(min(last_step(one.run.folder / "log.jsonl"), one.steps) for one in runs)


def where_it_stands(one: ArmRun) -> str:
    """The state of a run: `baseline unet seed 0 at 320` (steps), or `... is tested` after training."""
    done = steps_done([one])
    return f"{one.title} {f'at {done}' if done < one.steps else 'is tested'}"


@contextmanager
def left_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM raise SystemExit meanwhile, so that started processes are ended too."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    process = os.getpid()
    before = signal.signal(signal.SIGTERM, lambda *_: leave(process))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Processes:
    """The processes of the runs under way, by folder; after `end`, no further process starts."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.running: dict[Path, subprocess.Popen[bytes]] = {}
        self.ended = False

    def run(self, folder: Path, command: Sequence[str], *, env: dict[str, str]) -> int:
        """Runs a command to its end, appends its output to output.txt in the folder and returns the exit status."""
        with (folder / "output.txt").open("a", encoding="utf-8") as stream:
            with self.guard:
                if self.ended:
                    return -signal.SIGTERM
                process = self.running[folder] = subprocess.Popen(command, env=env, stdout=stream, stderr=stream)
            try:
                return process.wait()
            finally:
                with self.guard:
                    del self.running[folder]

    def folders(self) -> list[Path]:
        """The folders of the runs under way."""
        with self.guard:
            return list(self.running)

    def end(self) -> None:
        """Terminates all processes under way."""
        with self.guard:
            self.ended = True
            for process in self.running.values():
                process.terminate()


def places_for(jobs: int) -> list[str | None]:
    """The GPU for each of `jobs` concurrent runs, in turn if there are several; None: whatever there is."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = seen.split(",") if seen else list(map(str, range(torch.cuda.device_count())))
    return [gpus[place % len(gpus)] if len(gpus) > 1 else None for place in range(jobs)]


def advice_on_jobs(device: torch.device, *, runs: int) -> str:
    """A sentence if several of these runs would share a GPU well, because a single run leaves it idle; else empty.

    An H200 was busy for 24 of a step's 82 ms with a U-Net on EfficientNet-B0 at 352 px, for 4 of 19 ms with a small
    one (LOG.md).
    """
    jobs = min(runs, usable_cores() // CORES_OF_A_JOB)
    if device.type == "cpu" or jobs < 2:
        return ""
    return (
        f"a small student leaves a GPU idle most of the time, waiting for the CPU; jobs={jobs} trains that many at once"
    )


def run_one(one: ArmRun, processes: Processes, *, jobs: int, verbs: Sequence[str], gpu: str | None = None) -> str:
    """Does one run in its own process; returns the end of its output if it failed, else an empty text."""
    folder = one.run.folder
    write_recipe(one.run.recipe, folder)
    share = max(1, usable_cores() // jobs)
    threads = min(threads_asked() or share, share)
    status = processes.run(
        folder,
        [
            sys.executable,
            str(Path(__file__).parents[1] / "run.py"),
            f"recipe={folder / 'recipe.yaml'}",
            f"do=[{','.join(verbs)}]",
        ],
        env={
            **os.environ,
            **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {}),
            LAUNCHED: "1",
            PLANNED: folder.name,
            "BANDPASS_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
        },
    )
    if status == 0:
        return ""
    output = folder / "output.txt"
    tail = output.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    return f"exit {status}, {output}: " + " | ".join(tail)
