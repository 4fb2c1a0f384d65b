"""`distill compare scores=FILE,...`: compares runs from tables of scores, of any machine or software."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

from distill.cli.options import Command, Option, names, path, several_of, whole

logger = logging.getLogger("bandpass")


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Prints the table, and writes the files of a comparison into `out`; dry: no files."""
    from distill.comparison.compare_files import compare_files

    out = None if dry else given.out
    _, text = compare_files(
        given.scores,
        arms=given.arms,
        students=given.students,
        seeds=given.seeds,
        datasets=given.datasets,
        out=out,
    )
    sys.stdout.write(text)
    if out is not None:
        logger.info("written to %s", out)
    return 0


COMMAND = Command(
    "compare",
    run,
    does="Compares runs from tables of their scores, as it does those of a recipe: runs of several machines, or of "
    "other software. A table has the columns arm, seed, dataset, stem, dice (in [0, 1]) and, if known, student, group "
    "(the sequence or patient) and share (of the image under its mask).",
    writes=("a table on standard output; OUT/compare.json, compare.md, compare.png, scores.csv",),
    options=(
        Option(
            "scores",
            "tables in UTF-8, each with some of the runs; distill compare writes scores.csv beside compare.md",
            "FILE,...",
            read=several_of(path),
            required=True,
        ),
        Option("arms", "only these arms (default: all); the first is the control", "NAME,...", read=names),
        Option("students", "only these students (default: all)", "NAME,...", read=names),
        Option("seeds", "only these seeds (default: all)", "N,...", read=several_of(whole(0))),
        Option("datasets", "only these data sets (default: all)", "NAME,...", read=names),
        Option("out", "folder for the results (default: nothing is written)", "DIR", read=path),
    ),
    examples=(
        "distill compare scores=artifacts/compare/NAME/scores.csv arms=baseline,distilled",
        "distill compare scores=A/scores.csv,B/scores.csv out=BOTH  # seeds of two machines in one table",
    ),
)
