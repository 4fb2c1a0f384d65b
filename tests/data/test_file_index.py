"""The file index: facts by path and by content, the newer ones of a file."""

from __future__ import annotations

import numpy as np

from distill.data.file_index import Facts, FileIndex, stamps_of


def test_the_file_index_keeps_what_was_found_by_path_and_by_content(tmp_path):
    files = [tmp_path / name for name in ("a.png", "b.png")]
    for file in files:
        file.write_bytes(b"bytes")
    tasks = [("image", file) for file in files]
    facts = [Facts("0" * 63 + "1", (3, 4), high=70_000), Facts("f" * 64, (5, 4), 1, 2, 3, void=True)]
    index, stamps = FileIndex.load(tmp_path), stamps_of(files)
    index.record(tasks, stamps, facts=facts)
    index.save()
    kept = FileIndex.load(tmp_path)
    assert kept.find(tasks, stamps) == facts
    assert kept.find([*tasks[::-1], ("mask", files[0])], stamps_of([*files[::-1], files[0]])) == [*facts[::-1], None]
    assert kept.find(tasks, stamps + np.array([0, 0, 1])) == [None, None]
    assert kept.find_content("image", "f" * 64) == facts[1]
    assert kept.find_content("mask", "f" * 64) is None and kept.find_content("image", "e" * 64) is None
    assert stamps_of([tmp_path / "none.png", b"bytes"]).tolist() == [[-1] * 3] * 2


def test_a_newer_fact_of_a_file_takes_the_place_of_the_older(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"bytes")
    for number in (1, 2):
        index = FileIndex.load(tmp_path)
        index.record([("image", file)], stamps_of([file]), facts=[Facts(f"{number}" * 64, (3, 4))])
        index.save()
    kept = FileIndex.load(tmp_path)
    assert len(kept.rows) == 1
    assert kept.find([("image", file)], stamps_of([file]))[0].key == "2" * 64
