"""recipes/README.md: its list, its terms and its examples are true."""

from __future__ import annotations

import re
import shlex

import pytest

import recipes
from distill.cli.recipes import story
from distill.config.parse import read_recipe
from distill.config.registry import LOSSES

TEXT = (recipes.FOLDER / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)


def test_it_lists_every_recipe_with_the_first_sentence_of_its_story():
    listed = re.findall(r"^- `(\w+)`: (.+)$", TEXT, flags=re.MULTILINE)
    assert listed == [(name, story(name)) for name in recipes.names()]


def test_it_explains_every_loss_term():
    table = TEXT.partition("### Loss terms")[2].partition("\n## ")[0]
    assert {name for name in re.findall(r"`(\w+)`", table) if name in LOSSES} == set(LOSSES)


def test_every_recipe_that_it_names_is_there():
    when = TEXT.partition("## Which recipe when")[2].partition("<!-- list -->")[0]
    named = {name for name in re.findall(r"`(\w+)[ `]", when) if "_to_" in name or name.startswith(("study_", "sam"))}
    assert named - {"study_"} <= set(recipes.names())


def test_it_can_be_finished():
    assert len(TEXT.splitlines()) <= 185
    assert max(map(len, TEXT.splitlines())) <= 140


@pytest.mark.parametrize("block", [block for language, block in BLOCKS if language == "yaml" and "extends" in block])
def test_its_recipes_are_valid(block, tmp_path):
    (tmp_path / "mine.yaml").write_text(block)
    recipe = read_recipe([f"recipe={tmp_path / 'mine.yaml'}"])
    if "before" in block:
        assert list(recipe.stages) == ["warm", "semantic", "boundary"]
    else:
        assert list(recipe.teachers) == ["sam"]


def test_its_arms_and_commands_are_valid(tmp_path):
    arms = next(block for language, block in BLOCKS if language == "yaml" and block.startswith("arms"))
    (tmp_path / "mine.yaml").write_text(f"extends: timm_to_unet\n{arms}")
    assert list(read_recipe([f"recipe={tmp_path / 'mine.yaml'}"]).sweep) == ["rate 5e-4", "rate 2e-3"]
    commands = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
    for line in commands:
        program, verb, *words = shlex.split(line)
        assert (program, verb in ("run", "compare")) == ("distill", True)
        if "recipe=mine.yaml" not in words:
            assert read_recipe(words).stages
