"""One picture of a run: input, the teacher's features as the cache stores them, the student's prediction, the truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import cache
from cache.spec import MASK
from distill.config.schema import TeacherRecipe
from distill.data.prompts import record_key
from distill.data.sample import Sample
from distill.data.sources.unlabelled import unlabel
from distill.extraction.cache_state import inspect_cache
from distill.extraction.plan import gallery
from distill.inference.drawing import BACKGROUND, PREDICTION, TEXT, TRUTH, draw_contour
from distill.inference.model import InferenceModel
from distill.metrics.overlap import foreground_of, without_void
from distill.runs.run import Run

CELLS = 64  # a side of the grid on which the teacher's cosine series is drawn
SHOWN = 4  # images
PANEL, GAP, HEAD = 1.9, 0.05, 0.3  # inches
SPREAD = 2.5  # deviations of a component between black and full colour


def colours_of(features: np.ndarray) -> np.ndarray:
    """Principal components (up to 3, h, w) as RGB in [0, 1]; zero is mid-grey, each is scaled by its own deviation."""
    return rgb_of(features / features.std(axis=(1, 2), keepdims=True).clip(1e-6))


def rgb_of(components: np.ndarray) -> np.ndarray:
    """Components (up to 3, h, w) in units of their deviation as RGB (h, w, 3) in [0, 1]; missing ones are mid-grey."""
    three = np.pad(components, ((0, 3 - len(components)), (0, 0), (0, 0)))
    return (0.5 + three / (2 * SPREAD)).clip(0, 1).transpose(1, 2, 0)


def shown_key(recipe: TeacherRecipe, sample: Sample) -> str:
    """The key under which a teacher's cache holds a validation image, unprompted."""
    return record_key(recipe, unlabel(sample))


def teacher_colours(store: cache.Cache, key: str) -> np.ndarray:
    """A teacher's cached features of an image in colour (CELLS, CELLS, 3); `key` is that of the record."""
    name = store.spec.names[-1]
    features = store.decode(key, "identity", map=name, grid=(CELLS, CELLS))
    if name == MASK:
        logits = store.codecs[name].inverse(features)
        foreground = logits.sigmoid() if len(logits) == 1 else 1 - logits.softmax(dim=0)[:1]
        return foreground.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return colours_of(features[:3].numpy())


def draw_gallery(run: Run, model: InferenceModel, path: Path) -> bool:
    """Writes the picture, one row per validation image; returns False if no cache holds these images."""
    shown = [sample for sample in gallery(run) if without_void(sample.read_mask()).any()][:SHOWN]
    keys = {name: partial(shown_key, run.recipe.teachers[name]) for name in run.caches}
    stores = {
        name: cache.open(folder)
        for name, folder in run.caches.items()
        if inspect_cache(folder, [(keys[name](sample), "identity") for sample in shown]).complete
    }
    if not stores or not shown:
        return False
    rows = []
    for sample in shown:
        image = sample.read_image()
        teachers = [teacher_colours(store, keys[name](sample)) for name, store in stores.items()]
        rows.append((image, teachers, model.predict(image), without_void(sample.read_mask())))
    titles = [f"teacher {name}{' (built in)' * (run.recipe.teachers[name].weights == 'builtin')}" for name in stores]
    draw_rows(path, ["input", *titles, "student", "truth"], rows)
    return True


def draw_rows(
    path: Path, columns: Sequence[str], rows: Sequence[tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]]
) -> None:
    """Lays out rows of (image, teachers' colours, probability, mask) under the columns' names.

    Of shapes (H, W, 3), (CELLS, CELLS, 3) each, (K, H, W) and (H, W).
    """
    from matplotlib.figure import Figure

    width = len(columns) * (PANEL + GAP) - GAP
    heights = [PANEL * image.shape[0] / image.shape[1] for image, *_ in rows]
    height = HEAD + sum(heights) + GAP * len(rows)
    figure = Figure(figsize=(width, height), dpi=110, facecolor=BACKGROUND)
    for column, name in enumerate(columns):
        colour = {"student": PREDICTION, "truth": TRUTH}.get(name, TEXT)
        left = (column * (PANEL + GAP) + 0.06) / width
        figure.text(left, 1 - HEAD / 2 / height, name, color=colour, size=9, va="center", parse_math=False)
    top = height - HEAD
    for (image, teachers, probability, mask), tall in zip(rows, heights, strict=True):
        top -= tall
        foreground = foreground_of(probability)
        for column in range(len(columns)):
            place = (column * (PANEL + GAP) / width, top / height, PANEL / width, tall / height)
            axes = figure.add_axes(place)
            axes.set_axis_off()
            if 0 < column <= len(teachers):
                axes.imshow(
                    teachers[column - 1], interpolation="bicubic", extent=(0, image.shape[1], image.shape[0], 0)
                )
                continue
            axes.imshow(image)
            if column == len(columns) - 2:
                draw_contour(axes, foreground, colour=PREDICTION)
            elif column == len(columns) - 1:
                draw_contour(axes, mask > 0, colour=TRUTH)
        top -= GAP
    figure.savefig(path, dpi=110, facecolor=BACKGROUND)
