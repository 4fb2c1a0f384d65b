"""`distill compare recipe=NAME [arms=X,Y] [students=X,Y] [seeds=0,1,2]`: the recipe's arms over several seeds."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from distill.cli.options import Command, Option, names, path, several_of, whole
from distill.cli.run import KEYS
from distill.config.command import remember_words
from distill.config.parse import read_recipe
from distill.config.schema import Recipe


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Compares the arms and runs what is missing; dry: lists the runs."""
    from distill.comparison.compare import compare
    from distill.comparison.estimate import estimate
    from distill.comparison.plan import choose_arms, plan_comparison

    remember_words(given.rest)
    if any(word.startswith("seed=") for word in given.rest):
        raise ValueError("compare trains every arm with the same seeds and takes seeds=0,1,2 instead of seed=")
    recipe = choose_arms(read_recipe(given.rest), given.arms)
    if dry:
        plan = plan_comparison(recipe, students=given.students, seeds=given.seeds)
        sys.stdout.write(estimate(plan, jobs=given.jobs))
        return 0
    compare(recipe, students=given.students, seeds=given.seeds, jobs=given.jobs, out=given.out)
    return 0


COMMAND = Command(
    "compare",
    run,
    continues=True,
    does="Trains and tests every arm of the recipe with every seed, on the same data, in the same order, for the same "
    "number of steps. Reports how each arm differs from the first one (the control), with intervals over images and "
    "over seeds. Finished runs are skipped.",
    writes=("OUT/compare.json, compare.md, compare.png, scores.csv; the runs in HOME/runs",),
    options=(
        Option("seeds", "seeds of weights, data order and augmentation, the same for every arm", "0,1,2", [0, 1, 2],
               several_of(whole(0))),
        Option("arms", "arms of the recipe (default: all); the first is the control", "NAME,...", None, names),
        Option("students", "students, each compared on its own (default: the recipe's)", "NAME,...", None, names),
        Option("jobs", "trainings at a time; 0 trains nothing and compares what is finished", "1", 1, whole(0)),
        Option("out", "folder for the results (default: in HOME/compare)", "DIR", read=path),
    ),
    keys=(*(key for key in KEYS if key != "seed"), "evaluate.select"),
    schema=Recipe,
    needs=("recipe=NAME",),
    examples=(
        "distill compare recipe=sam_to_unet seeds=0,1,2",
        "distill compare recipe=study_small arms=baseline,both ...   # two arms of a study",
        "distill compare recipe=sam_to_unet --dry-run",
    ),
)  # fmt: skip
