"""The example pictures of a model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.evaluation.predictions_csv import Score
from distill.inference.drawing import draw_example
from distill.inference.model import InferenceModel
from distill.metrics.overlap import without_void
from distill.publishing.card import Picture
from distill.publishing.gallery import draw_gallery
from distill.publishing.onnx_check import evenly_with_both_ends
from distill.runs.run import Run


def draw_examples(run: Run, model: InferenceModel, scores: Sequence[Score], *, folder: Path) -> list[Picture]:
    """Pictures of test images at evenly spaced ranks of Dice, from the best to the worst."""
    samples = {(sample.dataset, sample.stem, sample.key): sample for sample in run.splits.tested}
    ranked = sorted(scores, key=lambda figures: (-figures.dice, figures.dataset, figures.stem))
    pictures: list[Picture] = []
    (folder / "examples").mkdir()
    if draw_gallery(run, model, folder / "examples" / "teacher.png"):
        title = "validation images: input, cached features in colour or soft masks, student, ground truth"
        pictures.append(Picture("examples/teacher.png", title))
    chosen = evenly_with_both_ends(list(enumerate(ranked, start=1)), run.recipe.publish.examples)
    for number, (rank, figures) in enumerate(chosen, start=1):
        sample = samples[figures.dataset, figures.stem, figures.key]
        picture = Picture(
            f"examples/{number}.png",
            f"{figures.dataset}/{figures.stem}: Dice {figures.dice:.3f}, rank {rank} of {len(ranked)}",
        )
        image = sample.read_image()
        draw_example(
            folder / picture.file,
            image,
            mask=without_void(sample.read_mask()),
            probability=model.predict(image),
            title=picture.title,
        )
        pictures.append(picture)
    return pictures
