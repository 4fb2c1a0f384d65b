"""JSON files that are damaged are named with the cure."""

from __future__ import annotations

import pytest

from distill.runtime.io import read_json, write_json


def test_what_was_written_is_read(tmp_path):
    write_json(tmp_path / "m.json", {"größe": 1.5})
    assert read_json(tmp_path / "m.json", cure="delete it") == {"größe": 1.5}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1]", b"\xff\xfe", b"null", b"[" * 200_000])
def test_a_damaged_file_is_named_with_the_cure(tmp_path, content):
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.json is damaged \(.*\); delete it, and evaluate again"):
        read_json(tmp_path / "m.json", cure="delete it, and evaluate again")
