"""SIGTERM and SIGINT: work in progress is saved at a safe point, and the exit status tells the signal."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

TERMINATED = 128 + signal.SIGTERM  # exit statuses, as a shell reports them
INTERRUPTED = 128 + signal.SIGINT
PLANNED = "BANDPASS_RUN"  # in the environment of a process of `compare`: the name of the run that it is to do
LAUNCHED = "BANDPASS_LAUNCHED"  # in the environment of a process that another of our processes waits for
CONTINUES = "the same command continues where this one stopped"

logger = logging.getLogger("bandpass")
_received: set[int] = set()
_next: list[str] = []


def set_next(sentence: str) -> None:
    """Sets the sentence on the next call that is logged when a signal ends the process; empty for none."""
    _next[:] = [sentence] if sentence else []


def ended(how: str) -> str:
    """The line to log: `terminated` or `interrupted`, and what the next call does."""
    return "; ".join([how, *_next])


def exit_on_signals() -> None:
    """Makes SIGTERM end this process with status 143 and a log line, and remembers SIGINT.

    Outside the main thread, which alone receives signals, nothing changes.
    """
    if threading.current_thread() is threading.main_thread():
        _received.clear()
        process = os.getpid()
        signal.signal(signal.SIGTERM, lambda *_: leave(process))
        signal.signal(signal.SIGINT, interrupt)  # even if a shell ignores it, as for background jobs


def leave_with_launcher() -> None:
    """Makes this process end with its launcher (torchrun, accelerate, compare), which may be killed alone.

    Otherwise it would continue beside the job that is started in its place.
    """
    if {"LOCAL_RANK", LAUNCHED} & os.environ.keys():
        threading.Thread(target=_leave_after, args=(os.getppid(),), daemon=True).start()


def _leave_after(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(1)
    logger.error("the launcher, process %d, has ended, so this process ends too; start the job again", launcher)
    os._exit(1)


def leave(process: int) -> NoReturn:
    """Ends `process` by SystemExit with a log line; a process forked from it just ends."""
    if os.getpid() != process:
        os._exit(TERMINATED)
    logger.warning(ended("terminated"))
    raise SystemExit(TERMINATED)


def interrupt(*_: Any) -> NoReturn:  # noqa: ANN401
    """Raises KeyboardInterrupt, as Python does."""
    _received.add(signal.SIGINT)
    raise KeyboardInterrupt


def interrupted() -> int:
    """130 if SIGINT has come, even if a library turned it into another error; else 0."""
    return INTERRUPTED if signal.SIGINT in _received else 0


@contextmanager
def signals_deferred() -> Iterator[Callable[[], bool]]:
    """Within the context, SIGTERM and SIGINT only make the yielded function true, so that work stops at a safe point.

    The signal is delivered at the end, a second SIGINT at once. Outside the main thread nothing changes.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    process = os.getpid()

    def receive(number: int, _: Any) -> None:  # noqa: ANN401
        if number == signal.SIGINT and os.getpid() == process:
            if number in received:
                interrupt()
            logger.warning("interrupted: saving what is done; interrupt again to stop at once")
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if received:
            os.kill(process, received[0])
