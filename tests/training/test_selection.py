"""The weights that are kept: those that score best by any figure, over all stages or over the last."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest
from small_run import recipe_of, run_of

from distill.config.schema import EvaluateRecipe, StudentRecipe
from distill.evaluation.scoring import validate
from distill.runs.checks import check
from distill.runs.weights import load_student
from distill.training.jsonl_log import read_log
from distill.training.train import train

validation = import_module("distill.training.validation")


def trained_with(monkeypatch, folder, *, figures, **evaluate):
    """The summary and the log of a run whose validation gives these figures in turn, one a score."""
    given = iter(figures)
    monkeypatch.setattr(validation, "validate", lambda *args, **named: next(given))
    run = run_of(replace(recipe_of(), evaluate=EvaluateRecipe(every=1, **evaluate)), folder)
    return train(run), [line for line in read_log(run.folder / "log.jsonl") if "validation_dice" in line]


def test_a_figure_that_should_be_small_keeps_the_weights_where_it_is_smallest(tmp_path, monkeypatch):
    figures = [{"dice": 0.9 - i / 10, "hd95": far} for i, far in enumerate([9.0, 40.0, 2.0, 5.0, 3.0])]
    summary, lines = trained_with(monkeypatch, tmp_path / "run", figures=figures, select="hd95")
    assert (summary["best_step"], summary["validation_dice"]) == (6, pytest.approx(0.7))
    assert summary["validation_hd95"] == 2.0
    assert [line["validation_hd95"] for line in lines] == [9.0, 40.0, 2.0, 5.0, 3.0]


def test_only_the_last_stage_is_kept_where_asked_for(tmp_path, monkeypatch):
    figures = [{"dice": dice} for dice in (0.5, 0.9, 0.8, 0.6, 0.7)]  # three of the first stage, two of the second
    assert trained_with(monkeypatch, tmp_path / "all", figures=figures)[0]["best_step"] == 4
    summary, _ = trained_with(monkeypatch, tmp_path / "last", figures=figures, select_from="last")
    assert (summary["best_step"], summary["validation_dice"]) == (10, 0.7)


def test_every_figure_of_the_evaluation_can_be_asked_for(tmp_path):
    run = run_of(recipe_of(), tmp_path)
    train(run)
    student = load_student(run)
    dice = validate(student, run)["dice"]
    for name in ("iou", "mae", "hd95", "dice_max_of_set", "iou_pooled", "boundary_iou"):
        found = validate(student, run, select=name)
        assert list(found) == ["dice", name]
        assert found["dice"] == dice
        assert found[name] >= 0


def test_a_figure_that_there_is_not_is_refused(tmp_path):
    recipe = replace(recipe_of(), evaluate=EvaluateRecipe(select="dise"))
    with pytest.raises(ValueError, match=r"evaluate\.select is 'dise', but must be one of dice, "):
        check(run_of(recipe, tmp_path))
    several = replace(recipe, evaluate=EvaluateRecipe(select="hd95"), student=StudentRecipe(width=2, classes=3))
    with pytest.raises(ValueError, match=r"evaluate\.select is 'hd95', but must be one of dice, iou$"):
        check(run_of(several, tmp_path))
    with pytest.raises(ValueError, match=r"evaluate\.select_from is 'some', but must be one of all, last"):
        EvaluateRecipe(select_from="some")
