"""The endoscope's camera and recorder, from light to a frame: field border, blur, noise and compression."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from distill.data.synthetic.scene import HALF_WIDTH, Camera
from distill.data.synthetic.surface import grid
from distill.data.synthetic.texture import Field


def field_of_view(camera: Camera, size: tuple[int, int]) -> np.ndarray | None:
    """The field of view, (H, W) bool: pixels that the sensor exposes; None for the whole frame."""
    x, y = grid(size)
    reach = camera.border_size
    visible = None
    if camera.border == "octagon":
        visible = (np.abs(x) + np.abs(y)) < 1.62 * reach
    elif camera.border == "circle":
        visible = x * x + y * y < (1.08 * reach) ** 2
    elif camera.border == "inset":
        visible = (np.abs(x) < 0.98 * reach) & (np.abs(y) < 0.93 * reach) & (np.abs(x) + np.abs(y) < 1.5 * reach)
    elif camera.border == "round":
        visible = (x / HALF_WIDTH) ** 6 + y**6 < (0.97 * min(reach, 1.0)) ** 6
    if camera.corner_box is not None:
        outside_box = (x > camera.corner_box[0] - HALF_WIDTH) | (y < 1 - camera.corner_box[1])
        visible = outside_box if visible is None else visible & outside_box
    return visible


def blur(light: Field, camera: Camera) -> Field:
    """Light (3, H, W) after defocus and motion, whose widths are fractions of the frame's height."""
    height, width = light.shape[-2:]
    stretch = width / (HALF_WIDTH * height)
    sigma = camera.defocus * height
    light = gaussian(height, sigma) @ light @ gaussian(width, sigma * stretch).T
    down, across = camera.motion[1] * height / 2, camera.motion[0] * height * stretch / 2
    steps = math.ceil(max(abs(across), abs(down)))
    if steps == 0:
        return light
    margin = steps + 1
    padded = np.pad(light, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    total = np.zeros_like(light)
    for step in range(steps + 1):
        way = step / steps - 0.5  # symmetric, so that the frame stays where its mask is
        top, left = margin + round(down * way), margin + round(across * way)
        total += padded[:, top : top + height, left : left + width]
    return total * (1 / (steps + 1))


def gaussian(count: int, sigma: float) -> Field:
    """A (count, count) matrix that blurs along an axis of as many pixels; its rows sum to one."""
    distance = np.arange(count, dtype=np.float32)
    kernel = np.exp(-0.5 * (distance / max(sigma, 0.2)) ** 2)
    weight = kernel[np.abs(np.arange(count)[:, None] - np.arange(count))]
    return weight / weight.sum(1, keepdims=True)


def develop(light: Field, camera: Camera, visible: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Light (3, H, W), linear and not negative, to a frame uint8 (H, W, 3) as the recorder wrote it.

    The tone curve saturates smoothly and then applies a gamma of 2; outside the field of view it is nearly black.
    """
    size = light.shape[-2:]
    if camera.fringe:
        shift = max(1, round(camera.fringe * size[1]))
        light[0, :, shift:] = light[0, :, :-shift].copy()
    tone = np.sqrt(1 - np.exp(-light))
    noise = rng.standard_normal(tone.shape, np.float32)
    tone += camera.noise * noise
    if visible is not None:
        tone *= visible
        tone += 0.012
    if camera.interlace:
        tone[:, ::2] = np.roll(tone[:, ::2], max(1, round(camera.interlace * size[1])), 2)
    tone *= 255
    np.clip(tone, 0, 255, out=tone)
    frame = np.ascontiguousarray(tone.transpose(1, 2, 0).astype(np.uint8))
    if not camera.jpeg:
        return frame
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=camera.jpeg)
    return np.array(Image.open(buffer).convert("RGB"))
