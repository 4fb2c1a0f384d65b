"""`distill compare recipe=NAME [arms=X,Y] [students=X,Y] [seeds=0,1,2]`: the recipe's arms over several seeds.

`distill compare scores=FILE,...` judges runs whose scores were kept.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

from distill.cli.options import Command, Option, path, several_of, whole
from distill.cli.run import KEYS
from distill.config.command import remember_words
from distill.config.parse import read_recipe
from distill.config.schema import Recipe

SEEDS = (0, 1, 2)


def names(_: str, value: str) -> list[str]:
    """Names with commas between them, which may hold spaces, in brackets or not."""
    return [part.strip() for part in value.strip("[]").split(",") if part.strip()]


def paths(key: str, value: str) -> list[Path]:
    """Paths with commas between them, `~` expanded."""
    return [path(key, name) for name in names(key, value)]


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Compares, running what is missing, or judges kept scores; dry: says which runs there would be.

    Raises:
        ValueError: keys of a recipe beside kept scores.
    """
    if given.scores:
        if given.rest:
            raise ValueError(f"scores= judges what was kept, and takes no {given.rest[0]}; see distill compare --help")
        return judge(given, dry=dry)
    from distill.comparison.compare import compare
    from distill.comparison.estimate import estimate
    from distill.comparison.plan import choose_arms, plan_comparison

    remember_words(given.rest)
    seeds = given.seeds or SEEDS
    recipe = choose_arms(read_recipe(given.rest), given.arms)
    if dry:
        plan = plan_comparison(recipe, students=given.students, seeds=seeds)
        sys.stdout.write(estimate(plan, jobs=given.jobs))
        return 0
    compare(recipe, students=given.students, seeds=seeds, jobs=given.jobs, out=given.out)
    return 0


def judge(given: SimpleNamespace, *, dry: bool) -> int:
    """The table of kept scores; dry: without files."""
    from distill.comparison.compare_files import compare_files

    out = None if dry else given.out
    compare_files(given.scores, arms=given.arms, students=given.students, seeds=given.seeds, out=out)
    return 0


COMMAND = Command(
    "compare",
    run,
    continues=True,
    does="Trains and tests every arm of the recipe with every seed, on the same data, in the same order, for the same "
    "number of steps, and says what the first arm (the control) and the others differ by, with intervals over images "
    "and over seeds. What is finished is skipped. With scores= it judges runs whose scores were kept, here or "
    "elsewhere.",
    writes=("OUT/compare.json, compare.md, compare.png, scores.csv; the runs in HOME/runs",),
    options=(
        Option("seeds", "of weights, data order and augmentation; the same for every arm", "0,1,2",
               read=several_of(whole(0))),
        Option("arms", "which of the recipe's arms (all); the first is the control", "NAME,...", None, names),
        Option("students", "each of these students for itself (the recipe's)", "NAME,...", None, names),
        Option("jobs", "trainings at once; 0 runs nothing and compares what is finished", "1", 1, whole(0)),
        Option("out", "folder of what is written (in HOME/compare)", "DIR", read=path),
        Option("scores", "instead of a recipe: scores.csv of comparisons, or tables with its columns arm, seed, "
               "dataset, stem, dice (in [0, 1]) and, where known, student, group, share", "FILE,...", read=paths),
    ),
    keys=(*KEYS, "evaluate.select"),
    schema=Recipe,
    needs=("recipe=NAME",),
    examples=(
        "distill compare recipe=sam_to_unet seeds=0,1,2",
        "distill compare recipe=study_small arms=baseline,both ...   # two arms of a study",
        "distill compare recipe=sam_to_unet --dry-run",
        "distill compare scores=A/scores.csv,B/scores.csv out=BOTH  # seeds of two machines in one table",
    ),
)  # fmt: skip
