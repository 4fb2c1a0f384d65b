"""Scores of very many images: the numbers of keeping every one, in files, exchanged and written some at a time."""

from __future__ import annotations

import csv
import hashlib
import io
from types import SimpleNamespace

import numpy as np
import pytest

from distill.evaluation import predictions_csv, scoring
from distill.evaluation.predictions_csv import Score, read_predictions, read_rows, write_predictions
from distill.evaluation.scored import Scored
from distill.evaluation.scoring import score
from distill.metrics.class_table import ClassTable
from distill.metrics.per_image import score_classes, score_everything
from distill.metrics.score_table import ScoreTable
from distill.runtime import mapped as rooms

SIZE = (12, 16)


def images(count):
    """Scores of drawn masks and probabilities, the third without foreground."""
    random, found = np.random.default_rng(0), []
    for number in range(count):
        mask = (random.uniform(size=SIZE) < 0.3) * (number != 2)
        whole = score_everything(random.uniform(size=SIZE), mask)
        dice, iou = whole.figures["dice"], whole.figures["iou"]
        found.append(Score("drawn", f"é{number}", f"{number:064x}", dice, iou, f"g{number // 2}", whole))
    return found


def scored(scores):
    found = Scored(scores)  # which are named as the samples are
    for one in scores:
        found.add(one)
    return found


def test_a_table_has_the_figures_of_its_images_and_so_has_a_part_of_it():
    scores = images(5)
    table, chosen = scored(scores).whole, np.array([1, 2, 4])
    for some, kept in ((table, scores), (table.part(chosen), [scores[number] for number in chosen])):
        whole = [one.whole for one in kept]
        assert len(some) == len(kept) and some.names == list(whole[0].figures)
        rows = [[*s.figures.values(), *s.counts[:3], *s.curves.dice, *s.curves.e_measure] for s in whole]
        np.testing.assert_array_equal(some.rows, rows)
        np.testing.assert_array_equal(some.reliability, [one.reliability.ravel() for one in whole])
        assert (some.shares == 0).tolist() == [one.stem == "é2" for one in kept]
        assert some.patches.tolist() == [one.patches for one in whole]
    part = scored(scores).part({scores[1].key, scores[3].key})
    assert [sample.stem for sample in part.samples] == ["é1", "é3"] and len(part) == len(part.whole) == 2
    assert part.overlaps[:, 0].tolist() == [scores[1].dice, scores[3].dice]
    assert len(Scored(scores).part({scores[1].key})) == 0, "another process has them"
    assert len(ScoreTable.of([])) == 0 and ScoreTable.of([]).shares.tolist() == []


def test_classes_are_kept_where_they_occur():
    table, truth = ClassTable(3, classes=4), np.zeros(SIZE, dtype=np.uint8)
    truth[:3], predicted = 2, np.zeros(SIZE, dtype=np.uint8)
    table.add({}, {(0, 0): 5}, group=None)
    figures = score_classes(predicted, truth, classes=4)
    table.add(figures, {(0, 0): 4, (2, 0): 1}, group="a")
    assert table.pairs == {(0, 0): 9, (2, 0): 1} and table.groups == [None, "a"]
    chosen, rows = table.of_class(2)
    assert chosen.tolist() == [1] and rows.tolist() == [list(figures[2].values())]
    assert not len(table.of_class(1)[0]) and not len(ClassTable(2, classes=3).of_class(2)[0])


def test_predictions_written_in_parts_are_those_written_at_once(tmp_path, monkeypatch):
    scores = images(7)
    path, text = tmp_path / "predictions.csv", io.StringIO()
    lines = list(scored(scores).lines())
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader(), writer.writerows(lines)
    monkeypatch.setattr(predictions_csv, "PART", 100)
    digest = write_predictions(path, iter(lines))
    assert path.read_text(encoding="utf-8") == text.getvalue()
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(one.stem, one.dice, one.share) for one in read_predictions(path, digest=digest)] == [
        (one.stem, one.dice, one.whole.share) for one in scores
    ]
    with pytest.raises(ValueError, match=r"predictions\.csv is damaged \(it is not what metrics\.json records\)"):
        list(read_rows(path, digest="0" * 64))
    write_predictions(path, [])
    assert path.read_text() == "dataset,stem,key,dice,iou\n" and read_predictions(path) == []


def test_processes_exchange_scores_some_at_a_time_and_keep_the_order(monkeypatch):
    monkeypatch.setattr(scoring, "GATHERED", 2)
    monkeypatch.setattr(scoring, "score_one", lambda probability, sample, **_: sample.stem)
    mask = np.zeros(SIZE, dtype=np.uint8)
    samples = [SimpleNamespace(stem=n, size=SIZE, read_mask=lambda: mask) for n in range(7)]
    monkeypatch.setattr(scoring, "read_ahead", lambda samples, images: samples)
    ranks = [SimpleNamespace(process_index=rank, num_processes=2) for rank in (0, 1)]
    sent = []
    for accelerator in ranks:
        monkeypatch.setattr("accelerate.utils.gather_object", lambda some: sent.append(some) or some)
        list(score(lambda sample: mask, samples, accelerator=accelerator, shown=False))
    assert [[index for index, _ in some] for some in sent] == [[0, 2], [4, 6], [1, 3], [5]]
    rounds = iter([sent[0] + sent[2], sent[1] + sent[3]])
    monkeypatch.setattr("accelerate.utils.gather_object", lambda _: next(rounds))
    assert list(score(lambda sample: mask, samples, accelerator=ranks[0], shown=False)) == list(range(7))


def test_no_room_for_the_scores_is_told(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rooms, "reserve", full)
    with pytest.raises(OSError, match=r"expected room for the scores of 1000 images, 4 MB, in .*No space.*by TMPDIR"):
        rooms.mapped(1000, 500)
