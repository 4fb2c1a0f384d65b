"""`distill bench what=teachers`: every adapter has something to be measured against."""

from __future__ import annotations

import pytest

import teachers
from distill.bench.request import Request
from distill.bench.teachers import LEAST, SUBJECTS, chosen, measure
from distill.cli.bench import read_request


def request_of(**options):
    return Request(("teachers",), 1, 1, None, options)


def test_every_adapter_is_measured():
    assert teachers.TEACHERS.keys() <= SUBJECTS.keys()
    assert chosen({}) == [name for name in SUBJECTS if name in teachers.TEACHERS]


@pytest.mark.parametrize("name", ["dinov2", "student", "sam", "timm"])
def test_a_row_says_how_an_adapter_compares(name):
    (row,) = measure(request_of(adapters=name, batch="1"))
    assert row.figure == f"{name}: throughput against the official forward pass"
    assert row.value > 0
    assert row.at_least == LEAST
    assert "1 images of" in row.note


def test_real_weights_of_efficientnet_are_measured_beside_the_random_ones(shared):
    file = shared / "weights" / "tf_efficientnet_b0.tracer.safetensors"
    rows = measure(request_of(adapters="student", efficientnet=str(file), batch="1"))
    assert rows[1].figure == f"timm with {file.name}: throughput against the official forward pass"
    assert "in processor time" in rows[1].note


def test_what_cannot_be_measured_is_said():
    assert read_request(["what=teachers", "adapters=sam", "batch=2"]).options == {"adapters": "sam", "batch": "2"}
    with pytest.raises(ValueError, match=r"no adapter 'sma' to measure; choose from sam, .*; did you mean 'sam"):
        chosen({"adapters": "sma"})
    with pytest.raises(ValueError, match=r"weights=x are for one adapter of transformers, but adapters=sam,sam2"):
        chosen({"adapters": "sam,sam2", "weights": "x"})
