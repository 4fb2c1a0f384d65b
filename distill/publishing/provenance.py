"""Provenance of a student: images, teachers and first weights, and the licence that follows from their terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from distill.data.sample import Sample
from distill.runs.licences import (
    LicensedSource,
    card_licence,
    contradictions,
    licence_of_data,
    licences_of_start,
    licences_of_teachers,
    told_once,
)
from distill.runs.run import Run


@dataclass(frozen=True)
class Provenance:
    """Origin and terms of a student.

    Attributes:
        parts: part of the data -> number of images of each data set in it; empty parts are left out.
        teachers: teacher's name in the recipe -> its terms.
        terms: of everything that the student was made from or tested on, each once.
        learned: the same without what it was only tested on.
        licence: `license`, and `license_name` if that is `other`.
        contradictions: sentences on the terms that contradict the licence asked for.
    """

    parts: Mapping[str, Mapping[str, int]]
    teachers: Mapping[str, LicensedSource]
    terms: Sequence[LicensedSource]
    learned: Sequence[LicensedSource]
    licence: Mapping[str, str]
    contradictions: Sequence[str]


def provenance_of(run: Run) -> Provenance:
    """Provenance of a run's student."""
    parts, asked = parts_of_data(run), run.recipe.publish.licence
    teachers = licences_of_teachers(run.recipe, run.caches)
    others = [*licences_of_start(run.recipe), *teachers.values()]
    generated = run.recipe.data.name == "builtin"
    data = {part: [licence_of_data(name, generated=generated) for name in counts] for part, counts in parts.items()}
    if "unlabelled" in parts and (folder := run.recipe.data.unlabelled):
        within = Path(folder).expanduser().name
        data["unlabelled"] = [licence_of_data(name, generated=generated, within=within) for name in parts["unlabelled"]]
    terms = list(dict.fromkeys([*chain(*data.values()), *others]))
    data.pop("test", None)
    learned = list(dict.fromkeys([*chain(*data.values()), *others]))
    shown = dict(zip(terms, told_once(terms), strict=True))
    return Provenance(
        parts,
        {name: shown[teacher] for name, teacher in teachers.items()},
        list(shown.values()),
        [shown[part] for part in learned],
        card_licence(terms, asked=asked),
        contradictions(learned, asked=asked),
    )


def parts_of_data(run: Run) -> dict[str, dict[str, int]]:
    """The number of images of each data set in each part of the data; empty parts are left out."""
    found = {
        "training": count(run.splits.train),
        "unlabelled": count(run.splits.unlabelled if run.recipe.takes_unlabelled else ()),
        "validation": count(run.splits.val),
        "test": count(run.splits.tested),
    }
    return {part: counts for part, counts in found.items() if counts}


def count(samples: Iterable[Sample]) -> dict[str, int]:
    """The number of images of each data set, by name."""
    return dict(sorted(Counter(sample.dataset for sample in samples).items()))
