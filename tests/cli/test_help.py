"""Help: one screen for all, one page a command, lists of recipes and keys."""

from __future__ import annotations

import dataclasses
import re
from pkgutil import resolve_name

import pytest

import recipes
from distill.cli.commands import COMMANDS, OTHER, help_text, overview
from distill.cli.recipes import story
from distill.config.keys import describe_keys
from distill.config.schema import Recipe
from distill.run import main

NAMES = recipes.names()


def told(capsys, *words):
    assert main(words) == 0
    return capsys.readouterr().out


def test_distill_alone_says_what_it_is_on_one_screen(capsys):
    text = told(capsys)
    assert text == told(capsys, "--help") == told(capsys, "-h") == overview()
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in COMMANDS)
    assert sum(line.startswith("  distill ") for line in lines) == 3


def test_the_version_is_told(capsys):
    assert re.fullmatch(r"bandpass (\d+\.\d+\.\d+|\(not installed\))\n", told(capsys, "--version"))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_says_what_it_does_its_keys_and_examples(name, capsys):
    command = resolve_name(COMMANDS[name][0])
    text = told(capsys, name, "--help")
    assert text.startswith(f"distill {name}")
    assert command.does in " ".join(text.split())
    assert command.examples and all(example in text for example in command.examples)
    assert all(example.startswith(("distill ", "accelerate launch ")) for example in command.examples)
    for option in command.options:
        assert option.meaning and f"  {option.name}={option.shown}" in text
    for key in command.keys:
        assert f"  {key.partition('=')[0]}=" in text
    assert max(map(len, text.splitlines())) <= 160
    assert ("all keys: distill keys" in text) == (command.schema is Recipe and bool(command.keys))
    if COMMANDS[name][0].startswith("distill.cli.run:"):
        assert 10 <= len(command.keys) <= 16


def test_help_is_as_wide_as_the_terminal_within_limits(monkeypatch):
    widths = {}
    for columns in (20, 80, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        keys = help_text("predict").partition("Keys\n")[2].partition("Examples")[0].splitlines()
        widths[columns] = max(map(len, keys))
    assert widths[20] <= 72 < widths[80] <= 80 < widths[300] <= 110


def test_help_prints_the_own_keys_of_a_command_before_its_examples():
    for command, key in (("compare", "jobs=1"), ("evaluate", "tolerance=2"), ("doctor", "data.split=DIR")):
        before_last_examples = help_text(command).rpartition("Examples")[0].splitlines()
        assert any(line.startswith(f"  {key} ") for line in before_last_examples), command


def test_the_keys_of_every_command_are_those_of_its_schema():
    for place in [*(place for place, _ in COMMANDS.values()), *(place for _, place in OTHER.values())]:
        command = resolve_name(place)
        if command.schema is not None:
            assert [key.partition("=")[0] for key in command.keys] == [
                word.partition("=")[0] for word, _ in command.shown_keys()
            ]


def test_distill_keys_explains_every_key(capsys):
    keys = list(describe_keys())
    assert all(meaning for _, _, meaning in keys)
    text = told(capsys, "keys")
    assert all(f"  {key}={default}" in text for key, default, _ in keys)
    assert {field.name for field in dataclasses.fields(Recipe)} <= {key.split(".")[0] for key, _, _ in keys}
    stages = [line.split("=")[0].strip() for line in told(capsys, "keys", "stages").splitlines() if "=" in line[:40]]
    assert set(stages) == {key for key, _, _ in keys if key.startswith("stages")}


def test_keys_that_there_are_not_are_told(capfd):
    assert main(["keys", "lr"]) == 1
    assert "no key of a recipe begins with 'lr'; did you mean 'optimiser.learning_rate'?" in capfd.readouterr().err
    assert main(["recipes", "sam"]) == 1
    assert "expected key=value, got 'sam'" in capfd.readouterr().err


def test_distill_recipes_lists_every_recipe_in_a_line(capsys):
    lines = told(capsys, "recipes").splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert max(map(len, lines)) <= 120


def test_help_tells_a_recipe_in_one_whole_sentence():
    for name in NAMES:
        assert re.fullmatch(r".+[.?]", story(name)), name
    assert story("study_pretrained") == "What is a pretrained encoder worth, and does the teacher still help?"
