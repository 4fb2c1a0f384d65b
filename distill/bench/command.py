"""`distill bench what=cache,train,...`: figures measured side by side in one run, as a table and as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from distill.bench.request import bench_of, read_request
from distill.bench.table import save, table
from distill.runtime.timing import Row

logger = logging.getLogger("bandpass")


def bench_command(words: Sequence[str], *, dry: bool) -> int:
    """Runs `distill bench ...`; see `distill.bench.request.USAGE`.

    Returns:
        the exit status: 1 if a figure is not what was wanted.
    """
    import torch

    request = read_request(words)
    if dry:
        logger.info("would measure %s in %d rounds", ", ".join(request.what), request.rounds)
        return 0
    torch.set_num_threads(request.threads)
    measured: dict[str, list[Row]] = {}
    for name in request.what:
        measured[name] = bench_of(name)(request)
        sys.stdout.write(table(name, measured[name]) + "\n")
        if request.out is not None:  # after each: what was measured is kept if a later one fails
            save(measured, request, words)
    missed = [row.figure for rows in measured.values() for row in rows if row.met is False]
    if missed:
        logger.error("%d of the figures %s not what was wanted: %s", len(missed),
                     "is" if len(missed) == 1 else "are", "; ".join(missed))  # fmt: skip
    return 1 if missed else 0
