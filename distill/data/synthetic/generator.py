"""Generated colonoscopy-like frames with exact masks: a lit tube with folds, vessels, wet highlights and polyps.

A frame is rendered, not painted: `draw` makes up a scene, `surface` gives the depth along every ray, `light` shades it
with a lamp beside the camera, and `camera` records it. A polyp is therefore known by its shading, its contour and the
pattern of its surface, seldom by its colour. The mask is the set of rays that meet a polyp, found in the same
arithmetic that shades it, never a threshold on pixels.
"""

from __future__ import annotations

import numpy as np

from distill.data.synthetic.camera import blur, develop, field_of_view
from distill.data.synthetic.draw import draw
from distill.data.synthetic.light import shade
from distill.data.synthetic.surface import Wall, grid, view_patches, view_polyps

VERSION = 1  # raise it with any change of the pixels that is meant


def render(seed: int, index: int, *, size: tuple[int, int] = (128, 160)) -> tuple[np.ndarray, np.ndarray]:
    """Render one frame and its mask.

    The frame depends on (seed, index, size) alone. Another size shows the same scene, stretched to that shape; only the
    sensor's noise, the recorder's artefacts and what is finer than a pixel differ.

    Args:
        seed: Names a stream of frames; not negative.
        index: The frame's number in its stream; not negative.
        size: Height and width in pixels, at least 16 each.

    Returns:
        The frame, uint8 (H, W, 3) RGB, and its mask, uint8 (H, W), 1 where a polyp is visible and 0 elsewhere.

    Raises:
        ValueError: If the seed or the index is negative, or the size too small.
    """
    if seed < 0 or index < 0 or min(size) < 16:
        raise ValueError(
            f"expected seed and index of at least 0 and a size of at least 16 x 16 pixels, got seed={seed}, "
            f"index={index}, size={tuple(size)}; choose another seed or a larger size"
        )
    scene = draw(seed, index)
    wall = Wall(scene, *grid(size))
    patches, polyps = view_patches(scene, wall, size), view_polyps(scene, wall, size)
    light = blur(shade(scene, wall, patches, polyps, size), scene.camera)
    visible = field_of_view(scene.camera, size)
    mask = np.zeros(size, np.uint8)
    for polyp in polyps:
        mask[polyp.window] |= polyp.inside
    if visible is not None:
        mask &= visible
    sensor = np.random.default_rng(np.random.SeedSequence([seed, index, 1]))
    return develop(light, scene.camera, visible, sensor), mask
