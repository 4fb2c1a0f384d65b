"""The scores of a data set's images, kept in mapped files: memory does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import numpy as np

from distill.data.sample import Sample
from distill.evaluation.predictions_csv import COLUMNS, IMAGE, SHARE, Score
from distill.evaluation.scoring import Predictor, score
from distill.metrics.class_table import ClassTable
from distill.metrics.names import OVERLAPS
from distill.metrics.score_table import ScoreTable
from distill.runs.run import Run
from distill.runtime.mapped import mapped


class Scored:
    """The scores of images, in their order.

    Attributes:
        samples: the images.
        whole: every figure for one class, if computed.
        classes: every figure for several classes, if computed.
    """

    def __init__(self, samples: Sequence[Sample], *, classes: int = 1) -> None:
        """Prepares for the scores of these images, by a student with `classes` classes."""
        self.samples = samples
        self.whole = ScoreTable(len(samples))
        self.classes = ClassTable(len(samples), classes=classes)
        self.overlaps = np.zeros((0, len(OVERLAPS)))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, score: Score) -> None:
        """Adds the score of the next image."""
        if not self._count:
            self.overlaps = mapped(len(self.samples), len(OVERLAPS))
        self.overlaps[self._count] = [getattr(score, name) for name in OVERLAPS]
        if score.whole is not None:
            self.whole.add(score.whole)
        if score.classes is not None and score.pairs is not None:
            self.classes.add(score.classes, score.pairs, group=score.group)
        self._count += 1

    def part(self, keys: Container[str]) -> Scored:
        """The scores of the images with these keys, for one class; empty if another process has them."""
        chosen = np.array(
            [n for n, sample in enumerate(self.samples[: len(self)]) if sample.key in keys], dtype=np.intp
        )
        some = Scored([self.samples[number] for number in chosen])
        some.overlaps, some._count = self.overlaps[chosen], len(chosen)
        some.whole = self.whole.part(chosen)
        return some

    def lines(self) -> Iterator[dict[str, str | float]]:
        """The lines of predictions.csv."""
        further = [(column, name) for column, name in enumerate(self.whole.names) if name not in COLUMNS]
        for number, sample in enumerate(self.samples):
            line = {name: getattr(sample, name) for name in IMAGE}
            line |= zip(OVERLAPS, self.overlaps[number].tolist(), strict=True)
            if len(self.whole):
                figures = self.whole.rows[number].tolist()
                line |= {name: figures[column] for column, name in further}
                line[SHARE] = float(self.whole.shares[number])
            yield line


def score_set(
    run: Run, predictor: Predictor, samples: Sequence[Sample], *, what: str, whole: bool = True, reads_images: bool
) -> Scored:
    """Scores images with all processes of a run; the first process gets the scores, the others none.

    Args:
        run: for its processes and the student's classes.
        predictor: of a student or a teacher.
        samples: images with masks.
        what: name shown with the progress.
        whole: whether every figure is computed.
        reads_images: whether the predictor reads images.
    """
    classes, accelerator = run.recipe.student.classes, run.accelerator
    found = Scored(samples, classes=classes)
    for one in score(
        predictor, samples, what=what, classes=classes, whole=whole, reads_images=reads_images, accelerator=accelerator
    ):
        if accelerator.is_main_process:
            found.add(one)
    return found
