"""SIGTERM, as schedulers and `docker stop` send it: work in progress is saved, and the process exits with 143."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

TERMINATED = 128 + signal.SIGTERM  # the exit status, as a shell reports it

logger = logging.getLogger("bandpass")


def exit_on_sigterm() -> None:
    """From now on SIGTERM ends this process with exit status 143 and a line that says so; forked ones just end."""
    process = os.getpid()

    def leave(*_: Any) -> None:  # noqa: ANN401
        if os.getpid() != process:
            os._exit(TERMINATED)
        logger.error("terminated; the same command continues where this one stopped")
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, leave)


@contextmanager
def sigterm_deferred() -> Iterator[Callable[[], bool]]:
    """Within the context SIGTERM only makes the given function true, so that the work can stop where it is whole.

    One that the work has not heeded is delivered at the end. Outside the main thread nothing changes.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, previous)
        if received:
            os.kill(os.getpid(), signal.SIGTERM)
