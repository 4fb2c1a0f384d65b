"""students/README.md: its blocks run, its files and figures are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from published import write_student

from students import STUDENTS, create
from students.contract import check_contract

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "students" / "README.md").read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)


def test_the_table_has_every_student_with_its_parameters():
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)", PAGE, flags=re.MULTILINE))
    assert set(STUDENTS) <= set(rows)
    for name in STUDENTS:
        count, width = re.search(r"([\d,]+) at (\d+)", rows[name]).groups()
        with torch.device("meta"):
            student = create(name, width=int(width))
        assert sum(p.numel() for p in student.parameters()) == int(count.replace(",", "")), name


def test_the_lines_that_load_a_published_student_run(tmp_path):
    (lines,) = (block for block in blocks(PAGE) if "students.load" in block)
    names = {"images": torch.zeros(2, 3, 40, 33)}
    exec(lines.replace("artifacts/runs/RUN/student", str(write_student(tmp_path))), names)
    assert names["logits"].shape == (2, 1, 40, 33)


def test_the_example_of_an_own_student_keeps_the_contract():
    (lines,) = (block for block in blocks(PAGE) if "class MyNet" in block)
    names: dict = {"__name__": "my_student"}
    exec(lines, names)
    check_contract(names["MyNet"](), image_size=64)


@pytest.mark.parametrize("word", ["class MyNet", "InferenceSession"])
def test_code_that_the_first_page_shows_too_is_the_same(word):
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (here,) = (block for block in blocks(PAGE) if word in block)
    assert all(block == here for block in blocks(page) if word in block)
