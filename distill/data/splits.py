"""Splitting into training, validation and test by content, by group, and without leaks.

Every random choice orders images by a hash of their key, so renaming and copying change nothing. Groups (sequences,
patients) are never divided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from distill.config.schema import DataRecipe
from distill.data.part_names import without_part
from distill.data.sample import Sample, Splits, by_dataset, keys_of
from distill.runtime.issues import several


@dataclass
class Parts:
    """The parts of a split before validation is cut and leaks are closed."""

    train: list[Sample]
    val: list[Sample] | None  # None: to be cut from `train`
    test: dict[str, list[Sample]]
    notes: list[str] = field(default_factory=list)
    dropped: int = 0

    def take_out(self, part: str, samples: Iterable[Sample], *, held: set[str], by: str) -> list[Sample]:
        """The samples of a part whose image key is not `held` by another part, each image once.

        Removed images are counted, and noted with the names of the part and of the parts that hold them (`by`).
        """
        samples = list(samples)
        clean = [sample for sample in samples if sample.key not in held]
        leaks = [sample for sample in samples if sample.key in held]
        if leaks:
            self.dropped += len(leaks)
            first = f"{leaks[0].dataset}/{leaks[0].stem}"
            self.notes.append(f"dropped {several(len(leaks), 'image')} of {part} that {by} also holds (first: {first})")
        once, differing = _once(clean)
        copies = len(clean) - len(once)
        if copies:
            apart = f" ({differing} with another mask)" if differing else ""
            self.notes.append(f"kept each image of {part} once: {several(copies, 'exact duplicate')}{apart} left out")
        return once


def finish(parts: Parts, data: DataRecipe, *, share: float) -> Splits:
    """Closes leaks (test beats validation beats training), cuts validation if it is not given, and adds notes.

    Args:
        parts: train, val (or None) and test.
        data: for `fold`, `seed` and the name of the group file.
        share: of each data set's training images that becomes validation.

    Raises:
        ValueError: a part is left without images, or `data.fold` is invalid.
    """
    tested = {sample.key for part in parts.test.values() for sample in part}
    if parts.val is None or data.fold:
        train = parts.take_out("training", [*parts.train, *(parts.val or [])], held=tested, by="test")
        train, val = cut_validation(train, data, share=share)
        if not data.fold and data.max_validation and share * (len(train) + len(val)) > data.max_validation:
            parts.notes.append(
                f"data.max_validation={data.max_validation}: {several(len(val), 'image')} validate, not {share:.1%} of "
                "the training part; the others are trained on"
            )
    else:
        val = parts.take_out("validation", parts.val, held=tested, by="test")
        held = tested | keys_of(val)
        train = parts.take_out("training", parts.train, held=held, by="validation or test")
    val = limit_validation(val, data, notes=parts.notes) if parts.val is not None or data.fold else val
    notes = parts.notes + familiar([*train, *val], parts.test, what=data.groups)
    _require_images(train, val, parts.test)
    test = {name: ordered(part) for name, part in parts.test.items()}
    return Splits(ordered(train), ordered(val), test, parts.dropped, tuple(notes))


def cut_test(samples: Sequence[Sample], *, share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Cuts the share to be tested from one data set, each image once.

    Returns:
        The other samples (with copies of test images, which `finish` drops and counts), and the test images.
    """
    once, _ = _once(samples)
    chosen = keys_of(choose(bundle(once, purpose="test", seed=seed), share=share))
    test = [sample for sample in once if sample.key in chosen]
    stems = {sample.stem for sample in test}
    return [sample for sample in samples if sample.stem not in stems], test


def cut_validation(samples: Sequence[Sample], data: DataRecipe, *, share: float) -> tuple[list[Sample], list[Sample]]:
    """Cuts validation from every data set of the training part: a fold, or the share, at most `data.max_validation`.

    Returns:
        Training and validation.
    """
    fold = parse_fold(data.fold) if data.fold else None
    share = min(share, data.max_validation / max(1, len(samples))) if data.max_validation else share
    chosen: set[str] = set()
    for mine in by_dataset(samples).values():
        bundles = bundle(mine, purpose="validation", seed=data.seed)
        part = deal(bundles, hands=fold[1])[fold[0] - 1] if fold else choose(bundles, share=share)
        chosen.update(sample.key for sample in part)
    train = [sample for sample in samples if sample.key not in chosen]
    return train, [sample for sample in samples if sample.key in chosen]


def limit_validation(val: list[Sample], data: DataRecipe, *, notes: list[str]) -> list[Sample]:
    """About `data.max_validation` images of a given validation part, from each data set in proportion."""
    if not data.max_validation or len(val) <= data.max_validation:
        return val
    chosen: set[str] = set()
    for mine in by_dataset(val).values():
        kept = choose(bundle(mine, purpose="validation", seed=data.seed), share=data.max_validation / len(val))
        chosen.update(sample.key for sample in kept or mine)
    notes.append(
        f"data.max_validation={data.max_validation}: {len(chosen)} of {several(len(val), 'validation image')} are "
        "used; the others are left out"
    )
    return [sample for sample in val if sample.key in chosen]


def parse_fold(fold: str) -> tuple[int, int]:
    """Reads `k/n`, the k-th of n folds, counted from 1."""
    number, _, count = fold.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) and int(count) >= 2:
        return int(number), int(count)
    raise ValueError(f"data.fold is {fold!r}, but must be k/n with 1 <= k <= n and n >= 2, as 1/5")


def bundle(samples: Iterable[Sample], *, purpose: str, seed: int) -> list[list[Sample]]:
    """The groups of one data set in random order; an image without a group is a group of its own."""
    groups: dict[str | tuple[str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.key if sample.group is None else (sample.group,), []).append(sample)

    def rank(group: list[Sample]) -> bytes:
        first = group[0].key if len(group) == 1 else min(sample.key for sample in group)
        return hashlib.sha256(f"{purpose} {seed} {first}".encode()).digest()

    return sorted(groups.values(), key=rank)


def choose(groups: Sequence[list[Sample]], *, share: float) -> list[Sample]:
    """The whole groups whose images come closest to the share, at least one group and never all."""
    sizes = [len(group) for group in groups]
    if share <= 0 or len(groups) < 2:
        return []
    wanted = max(1, round(share * sum(sizes)))
    return [sample for place in closest_sum(sizes, wanted) for sample in groups[place]]


def closest_sum(sizes: Sequence[int], wanted: int) -> list[int]:
    """The places of some but not all sizes whose sum is closest to `wanted`; earlier sizes are preferred.

    Sums are built up size by size, and the first way to reach a sum is kept (subset sum by dynamic programming).
    """
    totals = [0, *accumulate(sizes)]
    if wanted in totals[1:-1]:
        return list(range(totals.index(wanted)))
    last = np.full(min(wanted + max(sizes) + 1, totals[-1]), -1, np.int64)  # sum -> place added last; -1: not reachable
    last[0] = len(sizes)
    for place, size in enumerate(sizes):
        after = last[size : size + wanted + 1]
        after[(after < 0) & (last[: len(after)] >= 0)] = place
        if wanted < len(last) and last[wanted] >= 0:
            break
    reached = np.flatnonzero(last >= 0)[1:]
    total = int(min(reached, key=lambda total: (abs(total - wanted), total)))
    places = []
    while total:
        places.append(int(last[total]))
        total -= sizes[places[-1]]
    return sorted(places)


def deal(groups: Sequence[list[Sample]], *, hands: int) -> list[list[Sample]]:
    """Deals whole groups into folds of nearly equal size: the largest first, each to the smallest fold."""
    folds: list[list[Sample]] = [[] for _ in range(hands)]
    for group in sorted(groups, key=len, reverse=True):
        min(folds, key=len).extend(group)
    return folds


def _once(samples: Iterable[Sample]) -> tuple[list[Sample], int]:
    """Each image once, under any name, and how many of the others had another mask."""
    samples = list(samples)
    if len(keys_of(samples)) == len(samples):
        return samples, 0
    first: dict[str, Sample] = {}
    differing = 0
    for sample in sorted(samples, key=lambda sample: sample.mask_key):
        kept = first.setdefault(sample.key, sample)
        differing += kept.mask_key != sample.mask_key
    return list(first.values()), differing


def ordered(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Samples in the order of their keys, independent of names."""
    return tuple(sorted(samples, key=lambda sample: (sample.key, sample.mask_key)))


def sequence_of(sample: Sample) -> tuple[str, str | None]:
    """The sequence or patient of a sample, by data set and group; folders that are parts of one set share groups."""
    return without_part(sample.dataset), sample.group


def familiar(training: Iterable[Sample], test: dict[str, list[Sample]], *, what: str | None) -> list[str]:
    """Notes on test images whose sequence or patient is also in the training part."""
    known = {sequence_of(sample) for sample in training if sample.group is not None}
    notes = []
    for name, part in test.items():
        count = sum(sequence_of(sample) in known for sample in part)
        if count:
            share = f"all {count}" if count == len(part) else f"{count} of {len(part)}"
            notes.append(
                f"{share} test images of {name} come from groups ({what}) that the training part also holds: the "
                f"score says little about unseen groups"
            )
    return notes


def _require_images(train: Sequence[Sample], val: Sequence[Sample], test: dict[str, list[Sample]]) -> None:
    counts = {"train on": len(train), "validate on": len(val), "test on": sum(map(len, test.values()))}
    for use, count in counts.items():
        if not count:
            found = ", ".join(f"{number} to {name}" for name, number in counts.items())
            raise ValueError(
                f"no image is left to {use} (found {found}); give more images, other data.fractions or "
                f"data.validation, or smaller groups in data.groups"
            )
