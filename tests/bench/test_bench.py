"""`distill bench`: interleaving, rows, and the command around the benchmarks."""

from __future__ import annotations

import json

import pytest

from distill.bench import request as requests
from distill.cli.bench import read_request
from distill.run import main
from distill.runtime.timing import Row, Timing, interleaved, ratio

KEYS = {"size": "of what is measured"}


def measure(request: requests.Request) -> list[Row]:
    return [
        Row("size", float(request.options.get("size", "3")), "px", at_most=4, note="a | b"),
        Row("rounds", request.rounds, ""),
    ]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setitem(requests.BENCHES, "own", __name__)


def test_every_action_runs_once_a_round_in_an_order_that_rotates():
    order = []
    taken = interleaved({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3, warm=1)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(timing.seconds) for name, timing in taken.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_taken_within_rounds():
    slow = {"a": Timing((2.0, 20.0, 2.0)), "b": Timing((1.0, 10.0, 1.0))}
    assert ratio(slow, "a", "b") == 2.0
    assert (Timing((3.0, 1.0, 2.0)).median, Timing((3.0, 1.0, 2.0)).percentile(0.99)) == (2.0, 3.0)
    hundred = Timing(tuple(float(second) for second in range(1, 101)))
    assert [hundred.percentile(share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]


def test_a_row_says_whether_it_is_what_was_wanted():
    assert [Row("", v, "", at_most=2).met for v in (1, 2, 3)] == [True, True, False]
    assert [Row("", v, "", at_least=2, at_most=3).met for v in (1, 2, 4)] == [False, True, False]
    assert (Row("", 1, "").met, Row("", 1, "", at_least=0.95).wanted) == (None, ">= 0.95")


def test_figures_are_shown_and_written_and_a_missed_one_is_the_exit_status(bench, tmp_path, capsys):
    assert main(["bench", "what=own", f"out={tmp_path / 'b.json'}", "rounds=2"]) == 0
    assert "| size   | 3 px     | <= 4   | a / b      |" in capsys.readouterr().out
    written = json.loads((tmp_path / "b.json").read_text())
    assert written["command"] == "distill bench what=own rounds=2"
    assert [(row["figure"], row["value"], row["met"]) for row in written["figures"]["own"]] == [
        ("size", 3.0, True),
        ("rounds", 2, None),
    ]
    assert "### own" in (tmp_path / "b.md").read_text()
    assert main(["bench", "what=own", "size=5"]) == 1
    assert "<= 4 (missed)" in capsys.readouterr().out


def test_what_cannot_be_measured_is_said(bench):
    with pytest.raises(ValueError, match=r"what is 'won', but must be one of .*own.*; did you mean 'own'\?"):
        read_request(["what=won"])
    with pytest.raises(ValueError, match=r"bench what=own has no key 'sise'; choose from .*; did you mean 'size'\?"):
        read_request(["what=own", "sise=3"])
    with pytest.raises(ValueError, match="rounds is 'x', but must be a whole number of at least 1"):
        read_request(["what=own", "rounds=x"])
    with pytest.raises(ValueError, match="distill bench needs what=NAME"):
        read_request([])
