"""The content of a generated frame in numbers that know no pixels; `draw` makes them up.

Scene coordinates: x in [-1.25, 1.25] to the right, y in [-1, 1] downwards, whatever the frame's shape. Lengths along
the line of sight are in units of the gut's radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HALF_WIDTH = 1.25


@dataclass(frozen=True)
class Blob:
    """A star-shaped outline about a centre: an ellipse with a few lobes."""

    x: float
    y: float
    a: float
    b: float
    angle: float
    lobes: tuple[complex, ...]

    @property
    def reach(self) -> float:
        """A radius about the centre beyond which no point of the outline lies."""
        return max(self.a, self.b) * (1 + sum(abs(lobe) for lobe in self.lobes))


@dataclass(frozen=True)
class Fold:
    """A haustral fold: a diaphragm across the gut at some depth, of one to three crescents.

    `height` is how far its rim comes in (log radius), `breadth` how far the crescents reach around, `roundness` how
    gently the rim curls.
    """

    depth: float
    height: float
    lobes: int
    phase: float
    breadth: float
    roundness: float


@dataclass(frozen=True)
class Polyp:
    """A polyp of kind flat, sessile or stalked.

    `relief` is its height over its radius; `lift` how much nearer than the wall a stalked head hangs (log depth);
    `foot` and `stem` where the stem meets the wall, and its radius. `tint`, `grain` (times the mix `skin` of patterns)
    and `vessels` (the share of the wall's that shows) change log albedo, `bumps` log depth. `edge` is the width of
    the outline's fading over its radius; `offset` picks a piece of the patterns.
    """

    kind: str
    outline: Blob
    relief: float
    roundness: float
    lift: float
    foot: tuple[float, float]
    stem: float
    tint: tuple[float, float, float]
    edge: float
    skin: tuple[float, ...]
    grain: float
    bumps: float
    vessels: float
    offset: tuple[float, float]


@dataclass(frozen=True)
class Patch:
    """Something that is no polyp.

    `kind` is bulge (the wall swells like a polyp), stool, mark (of suction), bubble or mucus (a film).
    """

    kind: str
    outline: Blob
    strength: float
    tint: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """The properties of camera and recorder: field of view, blur, noise and compression.

    `defocus`, `interlace` and `fringe` are fractions of the frame's height or width, `motion` a way in scene units;
    `jpeg` is the quality, 0 for none.
    """

    border: str
    border_size: float
    corner_box: tuple[float, float] | None
    vignette: float
    defocus: float
    motion: tuple[float, float]
    noise: float
    jpeg: int
    interlace: float
    fringe: float


@dataclass(frozen=True)
class Scene:
    """All of one frame.

    `warp` (2, rows, columns), `undulation`, `redness` and `wetness` (rows, columns) are coarse grids that
    `surface.smooth` spreads over the frame; `albedo` and `blood` (what a vessel takes away) are logarithms by channel;
    `turns` and `offset` lay the wall's patterns.
    """

    lumen: tuple[float, float]
    openness: float
    focal: float
    warp: np.ndarray
    undulation: np.ndarray
    folds: tuple[Fold, ...]
    polyps: tuple[Polyp, ...]
    patches: tuple[Patch, ...]
    albedo: tuple[float, float, float]
    blood: tuple[float, float, float]
    redness: np.ndarray
    vessels: float
    mottle: float
    roughness: float
    turns: int
    offset: tuple[float, float]
    lamp: tuple[float, float]
    falloff: float
    exposure: float
    wetness: np.ndarray
    wet: float
    gloss: float
    camera: Camera
