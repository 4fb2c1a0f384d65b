"""Provenance of a student: images, teachers and first weights, and the licence that follows from their terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distill.data.sample import Sample
from distill.runs.licences import Terms, contradictions, licence_of, terms_of_data, terms_of_start, terms_of_teachers
from distill.runs.run import Run


@dataclass(frozen=True)
class Provenance:
    """Origin and terms of a student.

    Attributes:
        parts: part of the data -> images of each data set in it; without the parts that hold none.
        teachers: teacher's name in the recipe -> its terms.
        terms: of everything that the student was made from or tested on, each once.
        licence: `license`, and `license_name` where that is `other`.
        contradictions: what stands against the licence that was asked for, a sentence each.
    """

    parts: Mapping[str, Mapping[str, int]]
    teachers: Mapping[str, Terms]
    terms: Sequence[Terms]
    licence: Mapping[str, str]
    contradictions: Sequence[str]


def provenance_of(run: Run) -> Provenance:
    """Origin and terms of a run's student."""
    asked, teachers = run.recipe.publish.licence, terms_of_teachers(run)
    learned, parts = terms_of_run(run, tested=False), parts_of_data(run)
    terms = terms_of_run(run, tested=True)
    return Provenance(parts, teachers, terms, licence_of(terms, asked=asked), contradictions(learned, asked=asked))


def parts_of_data(run: Run) -> dict[str, dict[str, int]]:
    """Part of the data -> images of each data set in it; without the parts that hold none."""
    found = {
        "training": count(run.splits.train),
        "unlabelled": count(run.splits.unlabelled),
        "validation": count(run.splits.val),
        "test": count(sample for samples in run.splits.test.values() for sample in samples),
    }
    return {part: counts for part, counts in found.items() if counts}


def terms_of_run(run: Run, *, tested: bool) -> list[Terms]:
    """The terms of everything that a student was made from, and where asked of what it was `tested` on, each once."""
    parts = {name: counts for name, counts in parts_of_data(run).items() if tested or name != "test"}
    names = dict.fromkeys(name for counts in parts.values() for name in counts)
    data = [terms_of_data(name, generated=run.recipe.data.name == "builtin") for name in names]
    return list(dict.fromkeys([*data, *terms_of_start(run.recipe), *terms_of_teachers(run).values()]))


def licence_of_student(run: Run) -> dict[str, str]:
    """`license`, and `license_name` where that is `other`, by `distill.runs.licences.licence_of`."""
    return licence_of(terms_of_run(run, tested=True), asked=run.recipe.publish.licence)


def count(samples: Iterable[Sample]) -> dict[str, int]:
    """Images of each data set, by name."""
    return dict(sorted(Counter(sample.dataset for sample in samples).items()))
