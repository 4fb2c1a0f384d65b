"""Terms that are known by a data set's name, the folder it lies in, or the bytes of weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.runs.fingerprint import digest_file
from distill.runs.licences import UNKNOWN, licence_of_data, licence_of_file
from teachers.weights import known


@pytest.mark.parametrize("name", ["polypgen", "polypgen-c4", "polypgen-unlabelled"])
def test_a_data_set_of_the_field_is_known_by_its_folder(name):
    assert licence_of_data(name, generated=False).title == "PolypGen"


def test_a_part_is_known_by_the_folder_that_it_lies_within():
    assert licence_of_data("c1", generated=False).licence == UNKNOWN
    assert licence_of_data("c1", generated=False, within="polypgen-unlabelled").licence == "CC BY 4.0"
    assert licence_of_data("c1", generated=False, within="mine").title == "c1"
    assert licence_of_data("kvasir-seg", generated=False, within="polypgen").title == "Kvasir-SEG"


def test_known_weights_are_known_by_their_bytes(tmp_path, monkeypatch):
    file = tmp_path / "renamed.safetensors"
    file.write_bytes(b"weights")
    assert licence_of_file(file) == ""
    assert licence_of_file(tmp_path / "absent") == ""
    monkeypatch.setattr(
        known, "PUBLISHED", (replace(known.PUBLISHED[0], sha256=digest_file(file), licence="Apache-2.0"),)
    )
    assert licence_of_file(file) == "Apache-2.0"
