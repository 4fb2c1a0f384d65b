"""`distill compare`: the words of its command line, and its dry run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from distill.comparison.compare import compare
from distill.comparison.estimate import estimate
from distill.comparison.plan import choose_arms, plan_comparison
from distill.config.parse import parse_overrides, read_recipe

OWN = ("arms", "students", "seeds", "jobs", "out")  # keys of this command beside those of a recipe


def compare_command(words: Sequence[str], *, dry: bool) -> int:
    """`distill compare recipe=NAME [arms=X,Y] [students=X,Y] [seeds=0,1,2] [jobs=N] [out=DIR] [key=value ...]`."""
    own = parse_overrides([word for word in words if word.partition("=")[0] in OWN])
    recipe = read_recipe([word for word in words if word.partition("=")[0] not in OWN])
    recipe = choose_arms(recipe, as_list(own.get("arms")))
    students, seeds, jobs = as_list(own.get("students")), as_list(own.get("seeds", [0, 1, 2])), own.get("jobs", 1)
    for key, values in (("seeds", seeds), ("jobs", [jobs])):
        if not values or not all(isinstance(value, int) and value >= 0 for value in values):
            raise ValueError(f"{key} is {own[key]!r}, but must be whole numbers from 0 on")
    assert seeds is not None
    if dry:
        sys.stdout.write(estimate(plan_comparison(recipe, students=students, seeds=seeds), jobs=jobs))
        return 0
    out = own.get("out")
    compare(recipe, students=students, seeds=seeds, jobs=jobs, out=Path(out) if out else None)
    return 0


def as_list(value: object) -> list | None:
    """A value as a list of one, a list as it is, nothing as nothing."""
    return value if value is None or isinstance(value, list) else [value]
