"""Splits of many images: validation is limited, and digests do not depend on how they are computed."""

from __future__ import annotations

import hashlib
import json

import pytest

from distill.config.schema import DataRecipe
from distill.data.sample import AT_ONCE, Sample, Splits
from distill.data.splits import Parts, finish


def samples_of(count, *, first=0, group=1, dataset="polyps"):
    """Samples without pixels, in groups of so many."""
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(first, first + count)]
    return [Sample(dataset, key, key, key[::-1], (8, 8), f"{n // group}", list, list) for n, key in enumerate(keys)]


def finished(parts, share=0.1, **asked):
    return finish(parts, DataRecipe(**asked), share=share)


def keys_of(samples):
    return {sample.key for sample in samples}


@pytest.mark.parametrize("group", [1, 7])
def test_validation_takes_a_share_but_no_more_than_asked_and_the_rest_is_trained_on(group):
    train, test = samples_of(3000, group=group), {"other": samples_of(5, first=9000, dataset="other")}
    whole = finished(Parts(train, None, test), max_validation=0)
    assert abs(len(whole.val) - 300) < group and len(whole.train) + len(whole.val) == 3000 and not whole.notes
    few = finished(Parts(train, None, test), max_validation=100)
    assert abs(len(few.val) - 100) < group and len(few.train) + len(few.val) == 3000
    assert keys_of(few.val) < keys_of(whole.val)
    assert f"data.max_validation=100: {len(few.val)} images validate, not 10.0% of" in few.notes[0]
    assert not {sample.group for sample in few.val} & {sample.group for sample in few.train}
    assert finished(Parts(train[::-1], None, test), max_validation=100).digest == few.digest
    assert len(finished(Parts(samples_of(30_000), None, test)).val) == 2000


def test_of_a_validation_that_is_given_every_data_set_keeps_its_share():
    val = samples_of(900) + samples_of(300, first=1000, dataset="rest")
    parts = Parts(samples_of(50, first=5000), val, {"other": samples_of(5, first=9000, dataset="other")})
    splits = finished(parts, max_validation=120)
    counts = [sum(sample.dataset == name for sample in splits.val) for name in ("polyps", "rest")]
    assert counts == [90, 30] and len(splits.train) == 50
    assert splits.notes == ("data.max_validation=120: 120 of 1200 validation images are used; the others are left out",)
    assert len(finished(parts, max_validation=1200).val) == 1200


def test_of_a_fold_some_are_validated_on_and_none_is_trained_on():
    train, test = samples_of(400), {"other": samples_of(5, first=9000, dataset="other")}
    fold = finished(Parts(train, None, test), fold="1/4", max_validation=0)
    few = finished(Parts(train, None, test), fold="1/4", max_validation=20)
    assert (len(fold.val), len(few.val)) == (100, 20)
    assert few.train == fold.train and keys_of(few.val) < keys_of(fold.val)


def test_a_limit_below_nothing_is_refused():
    with pytest.raises(ValueError, match=r"data\.max_validation is -1, but must not be negative"):
        DataRecipe(max_validation=-1)


@pytest.mark.parametrize("unlabelled", [0, 3])
def test_the_digest_is_that_of_the_json_of_all_keys(unlabelled):
    parts = [samples_of(AT_ONCE + 9), [], samples_of(2, first=9000), samples_of(unlabelled, first=9500)]
    splits = Splits(tuple(parts[0]), (), {"b": tuple(parts[2]), "ä": ()}, unlabelled=tuple(parts[3]))
    train, val, test, others = ([[s.key, s.mask_key] for s in sorted(part, key=lambda s: s.key)] for part in parts)
    content = [train, val, {"b": test, "ä": []}, *([others] if others else [])]
    assert splits.digest == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
