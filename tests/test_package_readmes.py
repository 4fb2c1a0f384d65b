"""The pages: lists of files that are true, and no line that is too long to read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("distill", "teachers", "students", "cache", "recipes")
READMES = sorted(
    path for room in ROOMS for path in (ROOT / room).rglob("README.md") if "zoo" not in path.parts
)  # not cards
WITH_FILES = [path for path in READMES if "\n## Files\n" in path.read_text(encoding="utf-8")]
LISTED = re.compile(r"^\W*(\w+\.py)\W+\w")


@pytest.mark.parametrize("readme", WITH_FILES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_package_s_list_of_files_names_each_once_with_a_line(readme):
    section = readme.read_text(encoding="utf-8").partition("\n## Files\n")[2].partition("\n## ")[0]
    listed = [match[1] for line in section.splitlines() if (match := LISTED.match(line))]
    assert sorted(listed) == sorted(path.name for path in readme.parent.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_no_line_of_a_package_s_readme_is_longer_than_140_characters(readme):
    assert max(map(len, readme.read_text(encoding="utf-8").splitlines())) <= 140


@pytest.mark.parametrize("page", ["CHANGELOG.md", "cache/FORMAT.md", "results/README.md", "results/field.md"])
def test_no_line_of_another_page_is_longer_but_rows_of_tables(page):
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert max(len(line) for line in lines if not line.startswith("|")) <= 140
