"""The light of a generated scene: colour of the tissue, a lamp beside the camera, and the shine of wet surfaces."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from distill.data.synthetic.camera import gaussian
from distill.data.synthetic.scene import Scene
from distill.data.synthetic.surface import PatchView, PolypView, Wall, grid, smooth
from distill.data.synthetic.texture import PERIOD, Field, sample, wall_patterns

BY_CHANNEL = (0.88, 1.06, 1.12)  # light that tissue scattered more often has lost more of its green and blue
STEEPEST = 7.0


def shade(scene: Scene, wall: Wall, patches: list[PatchView], polyps: list[PolypView], size: tuple[int, int]) -> Field:
    """Light (3, H, W) that comes back to the camera, linear, about 1 where the frame is well lit."""
    texels = PERIOD * scene.turns / (2 * math.pi)
    around, deeper = np.arctan2(wall.sine, wall.cosine) * texels, wall.log_radius * texels
    vessels, mottle, wet_x, wet_y = sample(wall_patterns(), around + scene.offset[0], deeper + scene.offset[1])
    colour = _log_albedo(scene, vessels * scene.vessels, mottle, patches, polyps, size)
    depth = wall.depth + 0.06 * scene.mottle * mottle + scene.roughness * wet_y
    lit, shine = _illuminate(scene, depth, wet_x, wet_y, size)
    for channel, gain in zip(colour, BY_CHANNEL, strict=True):
        channel += gain * lit
    light = np.exp(colour, out=colour)
    light += shine
    for view in patches:
        if view.patch.kind == "bubble":
            _lay_bubble(light, view)
    return light


def _log_albedo(
    scene: Scene,
    vessels: Field,
    mottle: Field,
    patches: list[PatchView],
    polyps: list[PolypView],
    size: tuple[int, int],
) -> Field:
    """Log albedo (3, H, W): mucosa, its blood, what lies on it, and the polyps."""
    grain = scene.mottle * mottle
    for view in patches:
        if view.rough is not None:
            vessels[view.window] *= np.clip(3 * (view.rho - 1) + 0.3, 0, 1)
    for polyp in polyps:
        vessels[polyp.window] *= 1 - (1 - polyp.polyp.vessels) * polyp.alpha
        here = grain[polyp.window]
        here += polyp.alpha * (polyp.polyp.grain * polyp.skin - 0.6 * here)
    blood = vessels + 0.5 * grain + smooth(scene.redness, *grid(size))
    both = zip(scene.albedo, scene.blood, strict=True)
    colour = np.stack([(albedo + 0.5 * grain) - share * blood for albedo, share in both])
    for view in patches:
        if view.patch.kind != "bubble":
            _cover(colour, view)
    for polyp in polyps:
        for channel, tint in zip(colour, polyp.polyp.tint, strict=True):
            channel[polyp.window] += tint * polyp.alpha
    return colour


def _cover(colour: Field, view: PatchView) -> None:
    """Tints what a piece of stool, a film of mucus or a suction mark covers; `colour` (3, H, W) changes in place."""
    if view.patch.kind == "stool":
        cover = np.clip((1 - view.rho) * 8, 0, 1)
    else:
        cover = np.clip((1 - view.rho) * 2, 0, 1) * (0.7 * view.patch.strength)
    for channel, tint in zip(colour, view.patch.tint, strict=True):
        channel[view.window] += cover * (tint if view.rough is None else tint + 0.12 * view.rough)


def _illuminate(scene: Scene, depth: Field, wet_x: Field, wet_y: Field, size: tuple[int, int]) -> tuple[Field, Field]:
    """Log of the light that falls on each point, (H, W), and the shine (H, W) of the wet surface back to the camera.

    The lamp's light falls as a power of distance that the camera's gain has flattened; what lies deeper than its
    surroundings is in their shade.
    """
    x, y = grid(size)
    slopes = _slopes(depth, size)
    cosine, distance = _facing(scene, depth, slopes, scene.lamp)
    vertical, horizontal = _surroundings(size)
    hidden = np.clip(depth - vertical @ depth @ horizontal, 0, 0.35)
    lit = np.log(np.maximum(cosine, 0) * 0.88 + 0.12) - scene.falloff * np.log(distance) - 2.2 * hidden
    lit += (scene.exposure - float(lit.mean()) * 0.8 + 0.9) - scene.camera.vignette * (x * x + y * y)
    lit -= 0.5 * np.maximum(lit - 0.5, 0)
    wavy = slopes[0] + scene.wet * wet_x, slopes[1] + scene.wet * wet_y
    glance, _ = _facing(scene, depth, wavy, (scene.lamp[0] / 2, scene.lamp[1] / 2))
    wetness = np.clip(1.5 * (smooth(scene.wetness, x, y) + scene.gloss), 0, 1)
    spark = np.clip((glance - 0.972) * (1 / 0.018), 0, 1) * wetness
    sheen = np.clip(glance, 0, 1) ** 24
    return lit, (2.5 * spark * spark + 0.05 * sheen) * np.exp(np.minimum(0.7 * lit, 1.0))


def _facing(scene: Scene, depth: Field, slopes: tuple[Field, Field], lamp: tuple[float, float]) -> tuple[Field, Field]:
    """Cosine (H, W) between the surface's normal and the way to a lamp at (u, v, 0), and the squared distance to it.

    For log depth q(x, y) seen through a pinhole of focal length f, the normal is along
    (f q_x, f q_y, -(1 + x q_x + y q_y)), and its product with the way to the lamp is f (u q_x + v q_y) + exp(q).
    """
    slope_x, slope_y = slopes
    x, y = grid((depth.shape[0], depth.shape[1]))
    far = np.exp(depth)
    tilt = 1 + x * slope_x + y * slope_y
    normal = scene.focal**2 * (slope_x * slope_x + slope_y * slope_y) + tilt * tilt
    side_x, side_y = far * (x / scene.focal) - lamp[0], far * (y / scene.focal) - lamp[1]
    distance = side_x * side_x + side_y * side_y + far * far
    towards = scene.focal * (lamp[0] * slope_x + lamp[1] * slope_y) + far
    return towards / np.sqrt(normal * distance), distance


def _slopes(depth: Field, size: tuple[int, int]) -> tuple[Field, Field]:
    """Slopes (H, W) of log depth along x and y in scene units, bounded so that an edge is a dark line, not a hole."""
    x, y = grid(size)
    slope_x, slope_y = np.empty_like(depth), np.empty_like(depth)
    slope_x[:, 1:-1] = (depth[:, 2:] - depth[:, :-2]) * float(0.5 / (x[0, 1] - x[0, 0]))
    slope_y[1:-1] = (depth[2:] - depth[:-2]) * float(0.5 / (y[1, 0] - y[0, 0]))
    slope_x[:, 0], slope_x[:, -1] = slope_x[:, 1], slope_x[:, -2]
    slope_y[0], slope_y[-1] = slope_y[1], slope_y[-2]
    bound = 1 / np.sqrt(1 + (slope_x * slope_x + slope_y * slope_y) * (1 / STEEPEST**2))
    return slope_x * bound, slope_y * bound


@lru_cache(maxsize=16)
def _surroundings(size: tuple[int, int]) -> tuple[Field, Field]:
    """Two matrices, (H, H) and (W, W), whose product with a field from either side averages over surroundings."""
    return gaussian(size[0], 0.045 * size[0]), gaussian(size[1], 0.036 * size[1]).T


def _lay_bubble(light: Field, view: PatchView) -> None:
    """Lays a bubble over light (3, H, W) in place: a bright rim, a darker inside, a small reflection of the lamp."""
    rho, strength = view.rho, view.patch.strength
    here = light[:, view.window[0], view.window[1]]
    here *= 1 - 0.25 * strength * (rho < 0.9)
    here += np.exp(-(((rho - 0.9) / 0.1) ** 2)) * (0.5 * strength)
    here += 2 * np.exp(-(((rho - 0.35) / 0.12) ** 2)) * (rho < 0.4) * strength
