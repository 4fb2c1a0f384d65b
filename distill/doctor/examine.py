"""Examination of a data set: its images and masks are read once, and every issue is collected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from distill.config.schema import DataRecipe
from distill.data.mask_classes import Reading
from distill.data.sample import Sample
from distill.data.sources.data_sets import choose_data_sets
from distill.data.sources.folder import find_data, take_inventory
from distill.data.sources.pairs import examine
from distill.doctor.checks import Case, examine_cases
from distill.doctor.inspect import inspect_all
from distill.doctor.issue_kinds import Issue, issues_of_problems
from distill.runtime.issues import Problems


@dataclass(frozen=True)
class Diagnosis:
    """The issues of a data set, and the images that were examined."""

    root: str
    cases: list[Case]
    issues: list[Issue]


def examine_data(data: DataRecipe, *, classes: int, home: Path) -> Diagnosis:
    """Examines every chosen data set; unusable files are reported and left out of further checks.

    Args:
        data: which data sets, as in a recipe.
        classes: of the masks, as `student.classes`.
        home: folder that keeps the file index.

    Raises:
        FileNotFoundError: the root or the split does not exist, or holds no data set.
        ValueError: the choices do not fit together, or a table cannot be read.
    """
    problems, found, reading = Problems(str(data.root)), find_data(data), Reading(classes, tuple(data.colours))
    trained, tested = choose_data_sets(data, found.places)
    inventory = take_inventory(found, data, trained=trained, tested=tested, problems=problems)
    samples, notes = examine(inventory.pairs, home=home, problems=problems, reading=reading)
    pairs = {(pair.dataset, pair.stem): pair for pair in inventory.pairs}
    inspections = inspect_all([pairs[sample.dataset, sample.stem] for sample in samples], reading=reading)
    apart = set(tested) - set(trained)

    def part_of(sample: Sample) -> str:
        if inventory.roles:
            return inventory.roles.parts.get((sample.dataset, sample.stem), "")
        return ("test" if sample.dataset in apart else "train") if apart else ""

    cases = [Case(sample, inspection, part_of(sample)) for sample, inspection in zip(samples, inspections, strict=True)]
    issues = issues_of_problems(problems.found)
    issues += examine_cases(cases, several_classes=reading.several, groups=data.groups)
    notes = [*found.notes, *inventory.notes, *notes]
    return Diagnosis(str(data.root), cases, issues + [Issue("note on the data", note) for note in notes])
