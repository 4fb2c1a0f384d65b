"""results/bench/families.md: the table of families is of the families that are tested."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "results" / "bench" / "families.json"


@pytest.fixture
def families(monkeypatch):
    """The script that makes the table, which imports its neighbours."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return import_module("families")


def test_the_table_has_a_row_for_every_tested_family_and_none_differs(families):
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["families"]
    assert [(row["family"], row["adapter"]) for row in rows] == [case[:2] for case in families.cases()]
    assert max(row["largest difference"] for row in rows) <= 1e-5


def test_a_row_says_what_was_compared_and_the_error_in_bfloat16(families):
    case = next(case for case in families.cases() if case[:2] == ("EfficientNet", "timm"))
    row = families.row_of(*case)
    assert (row["equal to"], row["sizes, px"], row["maps"]) == ("timm", "96 and 128", 2)
    assert row["largest difference"] <= 1e-5
    assert 0 < row["error in bfloat16"] < 0.05
