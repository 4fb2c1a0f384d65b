"""Terms that are known by a data set's name, the folder it lies in, or the bytes of weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.runs.fingerprint import digest_file
from distill.runs.licences import (
    NO_OTHERS,
    UNKNOWN,
    LicensedSource,
    licence_of_data,
    licence_of_file,
    terms_in,
    told_once,
)
from teachers.weights import known


@pytest.mark.parametrize("name", ["polypgen", "polypgen-c4", "polypgen-unlabelled"])
def test_a_data_set_of_the_field_is_known_by_its_folder(name):
    assert licence_of_data(name, generated=False).title == "PolypGen"


def test_a_part_is_known_by_the_folder_that_it_lies_within():
    assert licence_of_data("c1", generated=False).licence == UNKNOWN
    assert licence_of_data("c1", generated=False, within="polypgen-unlabelled").licence == "CC BY 4.0"
    assert licence_of_data("c1", generated=False, within="mine").title == "c1"
    assert licence_of_data("kvasir-seg", generated=False, within="polypgen").title == "Kvasir-SEG"


def test_what_a_source_was_made_from_is_told_once():
    expert = "Kvasir-SEG (research); the encoder that it began with, b0 (MIT)"
    small = f"Kvasir-SEG (research); PolypGen (CC BY 4.0); student timm_unet ({expert}); own (ask (us) first)"
    assert dict(terms_in(small)) == {
        "Kvasir-SEG": "research",
        "PolypGen": "CC BY 4.0",
        "the encoder that it began with, b0": "MIT",
        "own": "ask (us) first",
    }
    assert not list(terms_in("MIT")) and not list(terms_in("CC BY 4.0; see the page"))
    parts = [
        ("Kvasir-SEG", "research"),
        ("own", "ask (us) first"),
        ("start", small),
        ("teacher", expert),
        ("weights", "Apache-2.0"),
    ]
    told = {part.title: part.licence for part in told_once(LicensedSource(*part) for part in parts)}
    assert told == {
        "Kvasir-SEG": "research",
        "own": "ask (us) first",
        "start": f"{NO_OTHERS}; PolypGen (CC BY 4.0); the encoder that it began with, b0 (MIT)",
        "teacher": NO_OTHERS,
        "weights": "Apache-2.0",
    }
    again = "; ".join(f"{title} ({licence})" for title, licence in told.items())  # on the card of a student of these
    assert {pair for pair in terms_in(again) if pair[1] != NO_OTHERS} == {
        ("Kvasir-SEG", "research"),
        ("own", "ask (us) first"),
        ("PolypGen", "CC BY 4.0"),
        ("the encoder that it began with, b0", "MIT"),
        ("weights", "Apache-2.0"),
    }


def test_known_weights_are_known_by_their_bytes(tmp_path, monkeypatch):
    file = tmp_path / "renamed.safetensors"
    file.write_bytes(b"weights")
    assert licence_of_file(file) == ""
    assert licence_of_file(tmp_path / "absent") == ""
    monkeypatch.setattr(
        known, "PUBLISHED", (replace(known.PUBLISHED[0], sha256=digest_file(file), licence="Apache-2.0"),)
    )
    assert licence_of_file(file) == "Apache-2.0"
