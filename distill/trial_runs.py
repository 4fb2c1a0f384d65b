"""Doing the runs of a comparison that are missing, several at once, each in a process of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import torch

from distill.evaluate import is_evaluated
from distill.files import write_text
from distill.grammar import dump_recipe
from distill.processors import usable_cores
from distill.progress import clock
from distill.trials import Trial

TAIL_LINES = 5  # of a failed run's output, in the error

logger = logging.getLogger("bandpass")


def run_missing(trials: Sequence[Trial], *, jobs: int, verbs: Sequence[str] = ("train", "evaluate")) -> None:
    """Runs the trials that `verbs` have not been done for yet, `jobs` at a time, each in a process of its own.

    Raises:
        RuntimeError: some failed; each is named with the end of its output.
    """
    tested = "evaluate" in verbs
    asked: dict[Path, Trial] = {}  # settings that ask for the same share one run
    for trial in trials:
        asked.setdefault(trial.job.folder, trial)
    missing = [
        trial for trial in asked.values() if not (is_evaluated(trial.job) if tested else trial.job.trained.is_file())
    ]
    if len(missing) < len(asked):
        logger.info("%d of %d runs are there already", len(asked) - len(missing), len(asked))
    began = time.monotonic()
    failed: list[str] = []
    places: SimpleQueue[str | None] = SimpleQueue()
    for place in places_for(jobs):
        places.put(place)

    def run(trial: Trial) -> tuple[Trial, str]:
        place = places.get()
        try:
            return trial, run_trial(trial, jobs=jobs, verbs=verbs, gpu=place)
        finally:
            places.put(place)

    with ThreadPoolExecutor(jobs) as pool:
        for done, (trial, error) in enumerate(pool.map(run, missing), start=1):
            if error:
                failed.append(f"{trial.title}: {error}")
            passed = time.monotonic() - began
            logger.info(
                "compare %d/%d runs, %s%s, %s left",
                done,
                len(missing),
                trial.title,
                " FAILED" if error else "",
                clock(passed / done * (len(missing) - done)),
            )
    if failed:
        raise RuntimeError(
            "runs failed, the others are kept; the same command runs what is missing\n" + "\n".join(failed)
        )


def places_for(jobs: int) -> list[str | None]:
    """The GPU that each of so many runs at once sees, in turn where there are several; None: whatever there is."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = seen.split(",") if seen else list(map(str, range(torch.cuda.device_count())))
    return [gpus[place % len(gpus)] if len(gpus) > 1 else None for place in range(jobs)]


def run_trial(trial: Trial, *, jobs: int, verbs: Sequence[str], gpu: str | None = None) -> str:
    """Runs one trial in a process of its own; returns the end of its output if it failed, else nothing."""
    folder = trial.job.folder
    write_text(folder / "recipe.yaml", dump_recipe(trial.job.recipe))
    output = folder / "output.txt"
    threads = max(1, usable_cores() // jobs)
    with output.open("a", encoding="utf-8") as stream:
        finished = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).with_name("run.py")),
                f"recipe={folder / 'recipe.yaml'}",
                f"do=[{','.join(verbs)}]",
            ],
            env={
                **os.environ,
                **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {}),
                "BANDPASS_THREADS": str(threads),
                "OMP_NUM_THREADS": str(threads),
            },
            stdout=stream,
            stderr=stream,
            check=False,
        )
    if finished.returncode == 0:
        return ""
    tail = output.read_text(encoding="utf-8").splitlines()[-TAIL_LINES:]
    return f"exit {finished.returncode}, {output}: " + " | ".join(tail)
