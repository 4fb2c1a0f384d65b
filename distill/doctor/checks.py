"""From inspections to issues: masks, copies, and images that two parts of a split share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.spec import VIEWS
from distill.data.image_io import threshold_of
from distill.data.sample import Sample
from distill.data.splits import familiar, sequence_of
from distill.doctor.duplicates import Near, components, find_near
from distill.doctor.inspect import Inspection
from distill.doctor.issue_kinds import Issue
from distill.runtime.issues import several

TINY, HUGE = 0.001, 0.7  # shares of the image that the foreground rarely leaves
SOFT = (16, 239)  # levels that JPEG noise does not reach
MANY = 20  # images of which one without an object would be expected, if there were any
NUMBERED = 0.005  # share of a mask's pixels from which low levels are no noise
FLAT = 2.0  # deviation of grey levels under which an image has no content
NAMED = 12  # images that a sentence names
RANK = {"train": 0, "val": 1, "test": 2}  # a leak is reported for the part that ranks higher
MIRRORED = {"identity": "", "hflip": ", mirrored", "vflip": ", upside down", "rot180": ", turned by half"}


@dataclass(frozen=True)
class Case:
    """A sample, its inspection, and its part; empty where there is no split."""

    sample: Sample
    inspection: Inspection
    part: str = ""

    @property
    def name(self) -> str:
        """`kvasir-seg/a3`, with its part."""
        part = f" ({self.part})" if self.part else ""
        return f"{self.sample.dataset}/{self.sample.stem}{part}"


def examine_cases(cases: Sequence[Case], *, several_classes: bool, groups: str | None) -> list[Issue]:
    """Every issue on readable pairs.

    Args:
        cases: of any number of data sets.
        several_classes: whether masks hold class numbers.
        groups: the source of sequences or patients, `data.groups`.
    """
    issues: list[Issue] = []
    for dataset in dict.fromkeys(case.sample.dataset for case in cases):
        mine = [case for case in cases if case.sample.dataset == dataset]
        issues += check_masks(dataset, mine, several_classes=several_classes)
    if not several_classes:
        issues += check_objects(
            cases, empty={sample.key for issue in issues if issue.kind == "empty mask" for sample in issue.samples}
        )
    issues += check_images(cases)
    issues += check_copies(cases)
    issues += check_near(cases)
    return issues + check_sequences(cases, what=groups)


def check_masks(dataset: str, cases: Sequence[Case], *, several_classes: bool) -> list[Issue]:
    """Checks the masks of one data set: levels in between; empty, full, tiny or huge foreground."""
    highest = max(int(np.flatnonzero(case.inspection.levels).max()) for case in cases)
    threshold = 1 if several_classes else threshold_of(highest)
    top = 254 if several_classes else 255  # class 255 counts for nothing
    issues = [] if several_classes or threshold == 1 else [*_between(dataset, cases), *_numbers(dataset, cases)]
    for case in cases:
        share = case.inspection.share(threshold, top)
        kind = "empty mask" if share == 0 else "full mask" if share == 1 else ""
        kind = kind or ("tiny foreground" if share < TINY else "huge foreground" if share > HUGE else "")
        if kind:
            level = int(np.flatnonzero(case.inspection.levels).max())
            told = f"highest level {level}" if share == 0 else f"{share:.2%} of the image"
            issues.append(_of(kind, f"{case.name}: {told}", case))
    return issues


def check_objects(cases: Sequence[Case], *, empty: Collection[str]) -> list[Issue]:
    """One issue if each of many training images shows an object; `empty` are keys of images that show none."""
    learned = [case for case in cases if case.part in ("", "train")]
    if len(learned) < MANY or any(case.sample.key in empty for case in learned):
        return []
    return [_of("an object everywhere", f"each of the {len(learned)} images to train on shows an object")]


def _between(dataset: str, cases: Sequence[Case]) -> Iterator[Issue]:
    """One issue for noise near 0 and 255, and one for levels that noise does not reach."""
    noisy = [case for case in cases if case.inspection.share(1, 254) > 0]
    soft = [case for case in cases if case.inspection.share(*SOFT) > 0]
    soft.sort(key=lambda case: -case.inspection.share(*SOFT))
    count = f"of {several(len(cases), 'mask')} of {dataset}"
    if noisy:
        worst = max(case.inspection.share(1, 254) for case in noisy)
        sentence = f"{len(noisy)} {count} hold other levels than 0 and 255, at most {worst:.1%} of their pixels"
        yield _of("values in between", sentence, *noisy[:1])
    if soft:
        worst = soft[0].inspection.share(*SOFT)
        sentence = f"{len(soft)} {count} hold levels from {SOFT[0]} to {SOFT[1]}, at most {worst:.2%} of their pixels"
        yield _of("values in between", f"{sentence} ({soft[0].name})", *soft[:4])


def _numbers(dataset: str, cases: Sequence[Case]) -> Iterator[Issue]:
    """One issue for masks that look like class numbers, with 255 for unknown pixels."""
    numbered = [case for case in cases if _is_numbered(case.inspection)]
    if numbered:
        count = f"{len(numbered)} of {several(len(cases), 'mask')} of {dataset}"
        yield _of("class numbers", f"{count} hold 255 and otherwise only the lowest levels, 1, 2, ...", *numbered[:1])


def _is_numbered(inspection: Inspection) -> bool:
    """Whether a mask holds 0, 255, and 1 to a few without a gap, on more pixels than noise would."""
    inner = np.flatnonzero(inspection.levels[1:255]) + 1
    consecutive = bool(len(inner)) and len(inner) == inner[-1] < SOFT[0]
    return consecutive and inspection.levels[255] > 0 and inspection.share(1, SOFT[0] - 1) > NUMBERED


def check_images(cases: Iterable[Case]) -> list[Issue]:
    """Checks for images without content, and for images with an EXIF turn that their masks do not have."""
    issues = []
    for case in cases:
        if case.inspection.spread < FLAT:
            deviation = f"deviation {case.inspection.spread:.1f}"
            issues.append(_of("one colour", f"{case.name} has no content ({deviation})", case))
        if case.inspection.turned:
            issues.append(_of("turned by EXIF", f"{case.name} is turned by its EXIF tag, its mask is not", case))
    return issues


def check_copies(cases: Sequence[Case]) -> list[Issue]:
    """Checks for files with the same bytes."""
    by_key: dict[str, list[Case]] = {}
    for case in cases:
        by_key.setdefault(case.sample.key, []).append(case)
    issues = []
    for same in (group for group in by_key.values() if len(group) > 1):
        names = names_of(same)
        masks = len({case.sample.mask_key for case in same})
        if len({case.part for case in same}) > 1:
            issues.append(_of("image in two parts", f"{names} are one file", *same))
        if masks > 1:
            issues.append(_of("one image with two masks", f"{names} are one file, with {masks} masks", *same))
        elif len({case.part for case in same}) == 1:
            issues.append(_of("copies", f"{names} are one file", *same))
    return issues


def check_near(cases: Sequence[Case]) -> list[Issue]:
    """Checks for near copies: across parts, one issue for each image; within a part, one for each group."""
    if not cases:
        return []
    near = find_near(np.stack([case.inspection.thumbnail for case in cases]))
    keys, parts = (_codes([one(case) for case in cases]) for one in (lambda c: c.sample.key, lambda c: c.part))
    near = near.where(keys[near.first] != keys[near.second])
    across = parts[near.first] != parts[near.second]
    return [*_near_across(cases, near.where(across)), *_near_within(cases, near.where(~across))]


def _codes(names: Sequence[str]) -> NDArray[np.int64]:
    """Numbers (n,) of names, the same for the same name."""
    return np.unique(np.array(names), return_inverse=True)[1]


def _near_within(cases: Sequence[Case], near: Near) -> Iterator[Issue]:
    """One issue for each group of images that pairs connect, in the order of their first images."""
    groups = components(near, len(cases))
    sizes, pairs = np.bincount(groups), np.bincount(groups[near.first], minlength=len(cases))
    least = np.full(len(cases), np.inf)
    np.minimum.at(least, groups[near.first], near.correlation)
    turned = np.zeros((len(cases), len(VIEWS)), np.bool_)
    turned[groups[near.first], near.view] = True
    members: dict[int, list[int]] = {}
    for place in np.flatnonzero(sizes[groups] > 1).tolist():
        members.setdefault(int(groups[place]), []).append(place)
    for group, places in members.items():
        mine = [cases[place] for place in places]
        turns = "".join(sorted(MIRRORED[view] for view, seen in zip(VIEWS, turned[group], strict=True) if seen))
        more = " or more" if pairs[group] > 1 else ""
        yield _of("near copies", f"{names_of(mine)}: correlation {least[group]:.4f}{more}{turns}", *mine)


def _near_across(cases: Sequence[Case], near: Near) -> Iterator[Issue]:
    """One issue for each image of the higher-ranked part, with the image most like it."""
    ranks = np.array([RANK.get(case.part, -1) for case in cases])
    swapped = ranks[near.first] > ranks[near.second]
    high = np.where(swapped, near.first, near.second)
    low = np.where(swapped, near.second, near.first)
    _, best, counts = np.unique(high, return_index=True, return_counts=True)  # pairs stand the most alike first
    for place, count in sorted(zip(best.tolist(), counts.tolist(), strict=True)):
        mine, other = cases[high[place]], cases[low[place]]
        more = f" (and {count - 1} more)" if count > 1 else ""
        sentence = f"{mine.name} looks like {other.name}{more}: correlation {near.correlation[place]:.4f}"
        yield _of("near copy in two parts", sentence + MIRRORED[VIEWS[near.view[place]]], mine, other)


def check_sequences(cases: Sequence[Case], *, what: str | None) -> list[Issue]:
    """Checks for sequences or patients with frames in several parts; `what` names the source of sequences."""
    training = [case.sample for case in cases if case.part in ("train", "val")]
    tests: dict[str, list[Sample]] = {}
    for case in cases:
        if case.part == "test":
            tests.setdefault(case.sample.dataset, []).append(case.sample)
    issues = [_of("test of known sequences", note) for note in familiar(training, tests, what=what)]
    groups: dict[tuple[str, str | None], list[Case]] = {}
    for case in cases:
        if case.sample.group is not None:
            groups.setdefault(sequence_of(case.sample), []).append(case)
    for (_, group), mine in groups.items():
        mine.sort(key=lambda case: RANK.get(case.part, -1))
        counts = Counter(case.part for case in mine)
        if len(counts) > 1:
            told = " and ".join(f"{count} in {part}" for part, count in counts.items())
            sets = ", ".join(dict.fromkeys(case.sample.dataset for case in mine))
            shown = [next(case for case in mine if case.part == part) for part in counts]
            sentence = f"sequence {group} of {sets}: {told}"
            issues.append(_of("sequence in two parts", sentence, *shown))
    return issues


def names_of(cases: Sequence[Case]) -> str:
    """The names of the first cases: a still camera may give thousands; doctor.json has them all."""
    names = ", ".join(case.name for case in cases[:NAMED])
    return f"{names} and {len(cases) - NAMED} more" if len(cases) > NAMED else names


def _of(kind: str, sentence: str, *cases: Case) -> Issue:
    return Issue(kind, sentence, tuple(case.sample for case in cases), tuple(case.part for case in cases))
