"""Sentences on what is wrong: names of files in them, and the first line of an error."""

from __future__ import annotations

import os

import pytest

from distill.runtime.issues import Problems, first_line, printable


def test_control_characters_and_bytes_that_are_no_text_become_escapes():
    assert printable("a b é漢字") == "a b é漢字"
    assert printable("evil\x1b[2J\n.txt") == r"evil\x1b[2J\n.txt"
    assert printable(os.fsdecode(b"caf\xe9.png")) == r"caf\xe9.png"


@pytest.mark.parametrize("skip", [True, False])
def test_a_name_in_a_problem_cannot_write_to_the_terminal(skip):
    problems = Problems("data.root=DIR")
    problems.add("odd name", "a/evil\x1b[2J\nname.png is odd")
    assert problems.found[0].sentence == r"a/evil\x1b[2J\nname.png is odd", "as doctor shows it too"
    if skip:
        (said,) = problems.settle(skip=True)
    else:
        with pytest.raises(ValueError, match="found 1 problem") as error:
            problems.settle(skip=False)
        said = str(error.value)
    assert r"evil\x1b[2J\nname.png is odd" in said


def test_an_error_without_a_message_is_known_by_its_name():
    assert first_line(OSError("one\ntwo")) == "one"
    assert first_line(TimeoutError()) == "TimeoutError"
