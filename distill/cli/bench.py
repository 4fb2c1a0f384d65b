"""`distill bench what=cache,train,...`: figures measured side by side in one run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from types import SimpleNamespace

from distill.bench.request import BENCHES, Request, bench_module
from distill.bench.table import save, table
from distill.cli.options import Command, Option, one_of, path, several_of, split_words, whole
from distill.cli.options import table as help_table
from distill.runtime.issues import nearest
from distill.runtime.timing import Row

logger = logging.getLogger("bandpass")


def read_request(words: Sequence[str]) -> Request:
    """The requested measurements.

    Raises:
        ValueError: wrong words, an unknown benchmark or key, or a value that is not a number.
    """
    given = COMMAND.read(words)
    if not given.what:
        raise ValueError(f"distill bench needs what=NAME, of {', '.join(BENCHES)}, as in {COMMAND.usage}")
    own = [option.name for option in COMMAND.options]
    known = {*own, *(key for name in given.what for key in bench_module(name).KEYS)}
    options = split_words(given.rest)
    for key in options:
        if key not in known:
            raise ValueError(
                f"bench what={','.join(given.what)} has no key {key!r}; choose from "
                f"{', '.join(sorted(known))}{nearest(key, known)}"
            )
    return Request(tuple(given.what), given.rounds, given.threads, given.out, options)


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Measures; returns 1 if a figure misses its target."""
    import torch

    request = read_request(given.words)
    if dry:
        logger.info("would measure %s in %d rounds", ", ".join(request.what), request.rounds)
        return 0
    torch.set_num_threads(request.threads)
    measured: dict[str, list[Row]] = {}
    for name in request.what:
        measured[name] = bench_module(name).measure(request)
        sys.stdout.write(table(name, measured[name]) + "\n")
        if request.out is not None:  # after each, so that figures are kept if a later one fails
            save(measured, request, given.words)
    missed = [row.figure for rows in measured.values() for row in rows if row.met is False]
    if missed:
        logger.error("%d of the figures %s not what was wanted: %s", len(missed),
                     "is" if len(missed) == 1 else "are", "; ".join(missed))  # fmt: skip
    return 1 if missed else 0


def more_keys() -> list[str]:
    """The keys of each benchmark, for help."""
    lines = []
    for name in BENCHES:
        lines += [
            f"Keys of what={name}",
            *help_table((f"{key}=", said) for key, said in bench_module(name).KEYS.items()),
        ]
    return lines


COMMAND = Command(
    "bench",
    run,
    does="Measures sizes, rates and latencies side by side in one run. The exit status is 1 if a figure misses its "
    "target.",
    writes=("a table on standard output; FILE.json, and FILE.md beside it",),
    options=(
        Option("what", f"benchmarks, with commas: {', '.join(BENCHES)}", "NAME,...", [], several_of(one_of(BENCHES))),
        Option("rounds", "measured runs of each side", "20", 20, whole(1)),
        Option("threads", "threads of torch and ONNX Runtime", "1", 1, whole(1)),
        Option("out", "figures as JSON; a table in Markdown is written beside it", "FILE.json", read=path),
    ),
    further=True,
    more=more_keys,
    examples=(
        "distill bench what=cache,train out=FILE.json             # ratios measured side by side in one run",
        "distill bench what=student students=unet sizes=256,352   # latency, throughput, int8; or student=DIR",
    ),
)
