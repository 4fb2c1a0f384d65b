"""The lines that say what an evaluation found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from small_run import small_run

from distill.evaluation.evaluate import evaluate
from distill.evaluation.predictions_csv import Score
from distill.evaluation.results import format_scores, summarise
from distill.evaluation.scored import Scored
from distill.metrics.per_image import score_everything


def scored(masks, predictions) -> str:
    scores = []
    for number, (mask, prediction) in enumerate(zip(masks, predictions, strict=True)):
        whole = score_everything(prediction.astype(np.float32), mask)
        figures = whole.figures
        scores.append(Score("drawn", str(number), str(number), figures["dice"], figures["iou"], None, whole))
    found = Scored(scores)
    for score in scores:
        found.add(score)
    return format_scores(summarise(found, resamples=10))


def test_sequences_that_become_known_are_counted_by_the_next_evaluation(tmp_path):
    run = small_run(tmp_path)
    name = next(iter(run.splits.test))
    before = evaluate(run)
    assert "sequences" not in before["datasets"][name]
    samples = tuple(replace(sample, group="one") for sample in run.splits.test[name])
    known = replace(run, splits=replace(run.splits, test={**run.splits.test, name: samples}))
    after = evaluate(known)
    assert after["datasets"][name]["sequences"] == 1
    assert after["evaluated"] != before["evaluated"]


def test_frames_without_foreground_are_told_apart():
    empty, disc = np.zeros((16, 16), dtype=np.uint8), np.zeros((16, 16), dtype=np.uint8)
    disc[4:8, 4:8] = 1
    half = disc * (np.arange(16) < 6)  # Dice 2/3
    text = scored([disc, disc, empty, empty, empty], [disc, half, empty, disc, half])
    assert text.startswith("Dice 0.533, IoU 0.500 over 5 images")
    assert text.endswith("; Dice 0.833 on the 2 with foreground, false positives on 2 of the 3 without")
    assert scored([empty], [empty]).endswith("; false positives on 0 of the 1 without")
    assert "without" not in scored([disc], [half]).replace("without an interval", "")
