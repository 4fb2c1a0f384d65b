"""The accelerator is the recipe's, whatever the environment says."""

from __future__ import annotations

from small_run import recipe_of

from distill.runs.accelerator import start_accelerator


def test_accumulation_in_the_environment_changes_nothing(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert start_accelerator(recipe_of()).gradient_accumulation_steps == 1
