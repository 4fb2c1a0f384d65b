"""The command line: `accelerate launch distill/run.py recipe=NAME [key=value ...]`, or `distill COMMAND ...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):
    # For a script, Python puts distill/ first on the path, where its modules would hide libraries.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # like those below, read when torch is imported, which is later
if "OMP_WAIT_POLICY" not in os.environ:
    # Threads waiting at a barrier would spin for milliseconds on cores that others need; let them sleep early.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # GNU's OpenMP: tens of microseconds
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # LLVM's and Intel's: milliseconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status: 0, 1 for an error (which is logged), 2 for an unknown flag."""
    from distill.cli.commands import run_line
    from distill.cli.logs import start_logging
    from distill.runtime.signals import exit_on_signals, leave_with_launcher

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as by 2>&-; progress and messages then go nowhere
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the end
    start_logging()
    exit_on_signals()
    leave_with_launcher()
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that a user's own classes are found but hide nothing
    return run_line(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
