"""`bench what=scale` at a size of a moment."""

from __future__ import annotations

import pytest

from distill.bench.request import Request
from distill.bench.scale import PARTS, measure


def request(**options):
    return Request(("scale",), rounds=1, threads=1, out=None, options=options)


@pytest.mark.timeout(900)
def test_every_part_is_measured_in_seconds_and_gigabytes():
    rows = measure(request(sizes="300"))
    assert [row.figure.partition(": ")[2] for row in rows] == [
        "draw the images of one step",
        "open the data again",
        "digest of the splits",
        "open the cache",
        "look every record up",
        "plan what is missing",
        "write one shard",
        "verify every byte",
    ]
    assert all(row.value > 0 and row.unit == "s" and row.note.endswith(" GB") for row in rows)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sizes": "10,many"}, "sizes holds 'many', but must be whole numbers from 2 on"),
        ({"parts": "pixels"}, f"parts holds 'pixels'; choose from {', '.join(PARTS)}"),
    ],
)
def test_wrong_keys_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        measure(request(**options))
