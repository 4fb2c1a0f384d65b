"""Example pictures: the image, the true and the predicted contour, the probability."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.metrics.overlap import THRESHOLD, foreground_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = ("input", "contours", "probability")
PANEL_HEIGHT, GAP, HEAD, FOOT = 3.0, 0.06, 0.32, 0.28  # inches
DOTS_PER_INCH = 110
BACKGROUND, TEXT, TRUTH, PREDICTION = "#17171b", "#d8d8dc", "#4fe3ff", "#ffb000"


def draw_example(path: Path, image: np.ndarray, *, mask: np.ndarray, probability: np.ndarray, title: str) -> None:
    """Writes a PNG of three panels: the input, both contours on it, the probability of any foreground.

    Args:
        path: of the picture.
        image: uint8 (H, W, 3).
        mask: the truth (H, W), 0 is background.
        probability: float32 (K, H, W).
        title: one line over the panels.
    """
    from matplotlib.figure import Figure

    panel = PANEL_HEIGHT * image.shape[1] / image.shape[0]
    width, height = len(PANELS) * (panel + GAP) - GAP, HEAD + PANEL_HEIGHT + FOOT
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=BACKGROUND)
    axes: dict[str, Axes] = {}
    captions = {"input": [("input", TEXT)], "contours": [("truth", TRUTH), ("prediction", PREDICTION)]}
    for number, name in enumerate(PANELS):
        left = number * (panel + GAP)
        axes[name] = figure.add_axes((left / width, FOOT / height, panel / width, PANEL_HEIGHT / height))
        axes[name].set_axis_off()
        for place, (words, colour) in enumerate(captions.get(name, [("probability of foreground", TEXT)])):
            x = (left + 0.06 + 0.55 * place) / width
            figure.text(x, FOOT / 2 / height, words, color=colour, size=9, va="center")
    # A stem may hold a dollar sign, which must not start a formula, or letters that the font lacks, shown as boxes.
    figure.text(0.06 / width, 1 - HEAD / 2 / height, title, color=TEXT, size=10, va="center", parse_math=False)

    foreground = foreground_of(probability)
    axes["input"].imshow(image)
    axes["contours"].imshow(image)
    draw_contour(axes["contours"], mask > 0, colour=TRUTH)
    draw_contour(axes["contours"], foreground, colour=PREDICTION)
    axes["probability"].imshow(foreground, cmap="magma", vmin=0, vmax=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(path, dpi=DOTS_PER_INCH, facecolor=BACKGROUND)


def draw_contour(axes: Axes, plane: np.ndarray, *, colour: str) -> None:
    """Draws the line at 0.5 of a plane (H, W), with a dark rim; nothing if no value crosses 0.5."""
    values = plane.astype(np.float32)
    if values.min() < THRESHOLD < values.max():
        axes.contour(values, levels=[THRESHOLD], colors="black", linewidths=3.0, alpha=0.6)
        axes.contour(values, levels=[THRESHOLD], colors=colour, linewidths=1.5)
