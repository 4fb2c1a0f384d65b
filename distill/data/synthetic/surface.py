"""The shape of a generated scene: log depth along every ray, and which polyp a ray meets.

The gut is a tube seen along its axis: a ray at distance r from the axis (in the image) meets the wall at depth
focal / r. Depths are kept as logarithms, so that a bump of a given solid shape is the same number near and far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from distill.data.synthetic.scene import HALF_WIDTH, Blob, Fold, Patch, Polyp, Scene
from distill.data.synthetic.texture import Field, sample, skin_patterns

Window = tuple[slice, slice]


@lru_cache(maxsize=16)
def grid(size: tuple[int, int]) -> tuple[Field, Field]:
    """Scene coordinates of pixel centres: x (1, W) and y (H, 1)."""
    height, width = size
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * HALF_WIDTH
    y = (np.arange(height) + 0.5) / height * 2 - 1
    return x[None].astype(np.float32), y[:, None].astype(np.float32)


def smooth(coarse: Field, x: Field, y: Field) -> Field:
    """A smooth field (..., H, W) over the frame: cubic B-splines through control values (..., rows, columns)."""
    rows, columns = coarse.shape[-2:]
    return _splines(y.ravel().tobytes(), rows, 1.0) @ coarse @ _splines(x.ravel().tobytes(), columns, HALF_WIDTH).T


@lru_cache(maxsize=256)
def _splines(positions: bytes, count: int, limit: float) -> Field:
    """The (positions, count) matrix of cubic B-splines with knots evenly over [-limit, limit]."""
    place = (np.frombuffer(positions, np.float32)[:, None] / limit + 1) / 2 * (count - 3) + 1
    distance = np.abs(place - np.arange(count))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


class Wall:
    """The gut's wall at positions x (1, W) and y (H, 1): polar coordinates about its axis, and log depth."""

    def __init__(self, scene: Scene, x: Field, y: Field) -> None:
        warp = smooth(scene.warp, x, y)
        across, down = warp[0] + (x - scene.lumen[0]), warp[1] + (y - scene.lumen[1])
        radius = np.sqrt(across * across + down * down + scene.openness**2)
        self.log_radius = np.log(radius)
        self.cosine, self.sine = across / radius, down / radius
        self.smooth_depth = math.log(scene.focal) - self.log_radius + smooth(scene.undulation, x, y)
        for patch in scene.patches:
            if patch.kind == "bulge":
                self.smooth_depth = self.smooth_depth - _bulge(patch, scene.focal, x, y)
        self.depth = self.smooth_depth
        for fold in scene.folds:
            self.depth = _with_fold(fold, self, scene.focal)


def _bulge(patch: Patch, focal: float, x: Field, y: Field) -> Field:
    """(H, W): a part of the wall that swells like a polyp, but has neither a contour nor a surface of its own."""
    rho, _, _ = place(patch.outline, x, y)
    height = 0.6 * patch.strength * math.sqrt(patch.outline.a * patch.outline.b) / focal
    return height * np.clip(1 - (0.75 * rho) ** 2, 0, 1) ** 2


def _with_fold(fold: Fold, wall: Wall, focal: float) -> Field:
    """Log depth (H, W) with one more fold before it: its rim hides what is behind, its face blends into the wall."""
    phase = wall.cosine * math.cos(fold.phase) + wall.sine * math.sin(fold.phase)
    if fold.lobes == 2:
        phase = 2 * phase * phase - 1
    elif fold.lobes == 3:
        phase = (4 * phase * phase - 3) * phase
    crescent = np.clip((phase + fold.breadth) / (1 + fold.breadth), 0, None)
    height = crescent * crescent * (fold.height / (1 - 0.5 * fold.height))
    beyond = wall.log_radius - (math.log(focal / fold.depth) - height)
    past = np.maximum(beyond, 1e-6)
    face = math.log(fold.depth) - 0.7 * height * np.sqrt(past / (past + fold.roundness))
    softness = 0.5 * height + 1e-3
    blend = np.maximum(softness - np.abs(face - wall.depth), 0)
    joined = np.minimum(face, wall.depth) - blend * blend / (4 * softness)
    return np.where(beyond > 0, joined, wall.depth)


def window(x: float, y: float, reach: float, size: tuple[int, int]) -> Window:
    """The pixels within `reach` of a point, as slices of the frame (perhaps empty)."""
    height, width = size
    top, bottom = (y - reach + 1) / 2 * height, (y + reach + 1) / 2 * height
    left = (x - reach + HALF_WIDTH) / (2 * HALF_WIDTH) * width
    right = (x + reach + HALF_WIDTH) / (2 * HALF_WIDTH) * width
    rows = slice(min(max(math.floor(top), 0), height), min(max(math.ceil(bottom), 0), height))
    columns = slice(min(max(math.floor(left), 0), width), min(max(math.ceil(right), 0), width))
    return rows, columns


def place(blob: Blob, x: Field, y: Field) -> tuple[Field, Field, Field]:
    """Coordinates (h, w) of points in a blob: rho (0 at the centre, 1 on the outline), its two axes in scene units."""
    cosine, sine = math.cos(blob.angle), math.sin(blob.angle)
    across, down = x - blob.x, y - blob.y
    along, aside = cosine * across + sine * down, cosine * down - sine * across
    point = along * (1 / blob.a) + 1j * (aside * (1 / blob.b))
    rho = np.abs(point)
    turn = point / np.maximum(rho, 1e-6)
    power, outline = turn, np.float32(1)
    for lobe in blob.lobes:
        power = power * turn
        outline = outline + (power * np.complex64(lobe)).real
    return rho / np.maximum(outline, 0.4), along, aside


@dataclass
class PatchView:
    """A patch as the camera sees it, within its window (h, w): rho as `place` gives it, and roughness if it has any."""

    patch: Patch
    window: Window
    rho: Field
    rough: Field | None


@dataclass
class PolypView:
    """A polyp as the camera sees it, within its window (h, w).

    `inside` is the mask; `alpha` in [0, 1] is the share of the polyp's own colour; `skin` is its pattern.
    """

    polyp: Polyp
    window: Window
    inside: np.ndarray
    alpha: Field
    skin: Field


def view_patches(scene: Scene, wall: Wall, size: tuple[int, int]) -> list[PatchView]:
    """Find where the patches lie, and raise pieces of stool from the wall (bulges are part of it)."""
    views = []
    for patch in scene.patches:
        outline = patch.outline
        here = window(outline.x, outline.y, 1.3 * outline.reach, size)
        x, y = _within(here, size)
        if not x.size * y.size or patch.kind == "bulge":
            continue
        rho, along, aside = place(outline, x, y)
        rough = None
        if patch.kind in ("stool", "mucus"):
            texels = 300 + 60 * patch.strength
            at = along * texels + 99 * outline.x, aside * texels + 99 * outline.y
            (rough,) = sample(skin_patterns()[3:], *at)
            rho = rho + 0.06 * rough
        if patch.kind == "stool" and rough is not None:
            relief = 0.7 * patch.strength * math.sqrt(outline.a * outline.b) / scene.focal
            dome = relief * np.sqrt(np.clip(1 - rho**2, 0, 1))
            wall.depth[here] -= dome + 0.012 * (rho < 1) * rough
        views.append(PatchView(patch, here, rho, rough))
    return views


def view_polyps(scene: Scene, wall: Wall, size: tuple[int, int]) -> list[PolypView]:
    """Raise each polyp from the wall in turn, so that a later one stands before an earlier one."""
    views = []
    for polyp in scene.polyps:
        reach = 1.25 * polyp.outline.reach
        if polyp.kind == "stalked":
            stem = math.hypot(polyp.foot[0] - polyp.outline.x, polyp.foot[1] - polyp.outline.y)
            reach = max(reach, stem + 2 * polyp.stem)
        here = window(polyp.outline.x, polyp.outline.y, reach, size)
        x, y = _within(here, size)
        if x.size * y.size:
            views.append(_raise(scene, polyp, wall, here, x, y))
    return views


def _raise(scene: Scene, polyp: Polyp, wall: Wall, here: Window, x: Field, y: Field) -> PolypView:
    """One polyp, raised from the wall at x (1, w) and y (h, 1); what nearer folds hide of it is no polyp."""
    outline, behind = polyp.outline, wall.depth[here]
    rho, along, aside = place(outline, x, y)
    scale = math.sqrt(outline.a * outline.b) / scene.focal
    inside, alpha = rho < 1, np.clip((1 - rho) / polyp.edge, 0, 1)
    if polyp.kind == "flat":
        body = behind - polyp.relief * scale * _plateau(rho)
    else:
        ground, shift = _ground(scene, polyp, wall.smooth_depth[here], scale)
        dome = polyp.relief * scale * np.clip(1 - rho**2, 0, 1) ** polyp.roundness
        if polyp.kind == "sessile":
            body = behind + np.clip(2.5 * (1 - rho), 0, 1) * (ground - behind) - dome
        else:
            stem, stem_alpha, on_stem = _stem(polyp, ground, x, y)
            on_stem &= ~inside
            body = np.where(on_stem, stem, ground - polyp.lift - dome)
            alpha, inside = np.where(on_stem, stem_alpha, alpha), inside | on_stem
        inside &= behind - wall.smooth_depth[here] > body - ground + (shift - 0.3)
        body, alpha = np.where(inside, body, behind), alpha * inside
    skin = _skin(scene, polyp, along, aside)
    wall.depth[here] = body + (polyp.bumps * alpha) * skin
    return PolypView(polyp, here, inside, alpha, skin)


def _ground(scene: Scene, polyp: Polyp, smooth_depth: Field, scale: float) -> tuple[Field, float]:
    """The wall (h, w) that a raised polyp stands on, level with its centre and never far from it; the fold there."""
    centre = Wall(scene, *(np.full((1, 1), value, np.float32) for value in (polyp.outline.x, polyp.outline.y)))
    level, shift = float(centre.depth[0, 0]), float(centre.depth[0, 0] - centre.smooth_depth[0, 0])
    return level + scale * np.tanh((smooth_depth + (shift - level)) * (0.5 / scale)), shift


def _stem(polyp: Polyp, ground: Field, x: Field, y: Field) -> tuple[Field, Field, np.ndarray]:
    """A round stem from below the head to its foot on the wall, (h, w): its log depth, its alpha, and where it is."""
    across, down = polyp.foot[0] - polyp.outline.x, polyp.foot[1] - polyp.outline.y
    length = math.hypot(across, down)
    x, y = x - polyp.outline.x, y - polyp.outline.y
    along = (x * across + y * down) / length**2
    aside = x * (-down / length) + y * (across / length)
    aside = np.hypot(aside, np.maximum(along - 1 + 1.3 * polyp.stem / length, 0) * length)
    width = polyp.stem * (0.7 + 1.6 * np.clip(along - 0.4, 0, 1) ** 2)
    bulk = 1 - (aside / width) ** 2
    end = np.clip((1 - along) * (length / polyp.stem), 0, 1)
    bulge = 0.6 * polyp.stem * np.sqrt(np.maximum(bulk, 0)) * np.sqrt(end)
    depth = ground - polyp.lift * (1 - along) * 0.8 - bulge
    return depth, 0.5 * np.clip(2 * bulk, 0, 1) * end, (bulk > 0) & (along > 0) & (along < 1)


def _skin(scene: Scene, polyp: Polyp, along: Field, aside: Field) -> Field:
    """The pattern (h, w) of a polyp at its own coordinates (h, w)."""
    texels = 330 / math.sqrt(scene.focal)
    at = along * texels + polyp.offset[0], aside * texels + polyp.offset[1]
    worn = [(pattern, weight) for pattern, weight in zip(skin_patterns(), polyp.skin, strict=True) if weight]
    skins = sample([pattern for pattern, _ in worn], *at)
    return np.sum([weight * skin for (_, weight), skin in zip(worn, skins, strict=True)], 0)


def _plateau(rho: Field) -> Field:
    """Relief (h, w) of a flat polyp: level inside, falling smoothly to nothing at the outline."""
    ramp = np.clip((1 - rho) / 0.32, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _within(here: Window, size: tuple[int, int]) -> tuple[Field, Field]:
    """Scene coordinates of the pixels of a window: x (1, w) and y (h, 1)."""
    x, y = grid(size)
    return x[:, here[1]], y[here[0]]
