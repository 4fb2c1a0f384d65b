"""`distill bench what=student`: a row for everything that was asked, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from distill.bench import students as bench
from distill.bench.students import Subject, measure, subjects, verdicts
from distill.cli.bench import read_request
from distill.inference.model import InferenceModel
from distill.runtime.timing import Timing
from students import create


def test_a_student_s_rows_are_latency_throughput_cost_and_verdicts(monkeypatch):
    monkeypatch.setitem(bench.WIDTHS, "unet", 2)
    rows = measure(read_request(["what=student", "students=unet", "sizes=32", "rounds=2"]))
    found = {row.figure.removeprefix("unet 2, 32 px: "): row for row in rows}
    assert 1000 * found["parameters"].value == sum(p.numel() for p in create("unet", width=2).parameters())
    for name in ("eager", "plain", "exported", "int8"):
        assert found[f"{name}, one frame, p50"].value <= found[f"{name}, one frame, p99"].value
        assert found[f"{name}, batches of 8"].unit == "images/s"
    assert found["exported / eager"].at_most == 1
    assert found["exported / plain file"].at_most is None, "U-Net wastes nothing in small kernels"
    assert found["exported - eager"].value < 1e-5


def test_a_wasteful_design_must_be_exported_at_three_quarters_of_its_time(tmp_path):
    subject = Subject("malunet 8", InferenceModel(create("malunet", width=4), image_size=64), tmp_path)
    spent = {
        name: Timing((seconds,), (seconds,))
        for name, seconds in (("exported", 0.8), ("plain", 1.0), ("eager", 2.0), ("int8", 1.0))
    }
    rows = verdicts(subject, spent, dict.fromkeys(spent, np.zeros(1)))
    assert [row.met for row in rows] == [False, True, None, True]


def test_what_cannot_be_measured_is_said():
    for words, said in (
        (["students=unett"], "no benchmark of student 'unett'; choose from"),
        (["sizes=16"], "sizes is '16', but must be pixels a side, each at least 32"),
        (["student=DIR", "sizes=256"], "student=DIR has its own network and size; leave out sizes="),
    ):
        with pytest.raises(ValueError, match=said):
            subjects(read_request(["what=student", *words]))
