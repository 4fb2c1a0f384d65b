"""The random choices of a generated frame, all made in scene coordinates before any size is known.

The ranges are what an endoscopist meets, widened; their order of drawing is part of what a seed means.
"""

from __future__ import annotations

import math

import numpy as np

from distill.data.synthetic.scene import HALF_WIDTH, Blob, Camera, Fold, Patch, Polyp, Scene

POLYP_KINDS = ("flat", "sessile", "stalked")
RELIEF = {"flat": (0.16, 0.32), "sessile": (0.45, 1.0), "stalked": (0.7, 1.0)}
FRAME_AREA = 4 * HALF_WIDTH

# Albedo of mucosa as sRGB under white light; the last two imitate narrow-band imaging.
PALETTE = (
    (205, 120, 98),
    (214, 112, 72),
    (194, 86, 66),
    (215, 150, 122),
    (196, 128, 76),
    (180, 100, 86),
    (92, 132, 124),
    (138, 132, 98),
)
PALETTE_WEIGHTS = (0.24, 0.2, 0.16, 0.13, 0.1, 0.09, 0.05, 0.03)
NARROW_BAND = 6


def draw(seed: int, index: int) -> Scene:
    """Draw the scene of one frame; the same for the same (seed, index), of whatever size it is rendered."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, 0]))
    lumen = _lumen(rng)
    palette = int(rng.choice(len(PALETTE), p=PALETTE_WEIGHTS))
    srgb = np.array(PALETTE[palette]) / 255 * np.exp(rng.normal(0, 0.045, 3))
    log_albedo = 2 * np.log(np.clip(srgb, 0.02, 0.98))
    log_albedo = log_albedo.max() + _uniform(rng, 1.05, 1.4) * (log_albedo - log_albedo.max())
    blood = (0.25, 1.0, 0.75) if palette < NARROW_BAND else (0.9, 0.9, 0.35)
    camera = _camera(rng)
    count = int(rng.choice(3, p=(0.1, 0.78, 0.12)))
    polyps: list[Polyp] = []
    for _ in range(count):
        polyps.append(_polyp(rng, lumen, camera.border, [polyp.outline for polyp in polyps]))
    focal = _uniform(rng, 0.7, 1.15)
    openness = _uniform(rng, 0.05, 0.16)
    return Scene(
        lumen=lumen,
        openness=openness,
        focal=focal,
        warp=rng.normal(0, _uniform(rng, 0.06, 0.17), (2, 6, 7)).astype(np.float32),
        undulation=rng.normal(0, _uniform(rng, 0.05, 0.16), (8, 10)).astype(np.float32),
        folds=_folds(rng, focal, lumen),
        polyps=tuple(polyps),
        patches=_patches(rng, polyps),
        albedo=_triple(log_albedo),
        blood=_triple(np.array(blood) * np.exp(rng.normal(0, 0.15, 3))),
        redness=rng.normal(0, _uniform(rng, 0.1, 0.3), (5, 6)).astype(np.float32),
        vessels=_uniform(rng, 0.2, 1.7) * (rng.random() < 0.8),
        mottle=_uniform(rng, 0.05, 0.24),
        roughness=_uniform(rng, 0.0, 0.0025),
        turns=max(1, round(math.hypot(*lumen) * _uniform(rng, 0.9, 1.8))),
        offset=(_uniform(rng, 0, 512), _uniform(rng, 0, 512)),
        lamp=(_uniform(rng, -0.45, 0.45), _uniform(rng, -0.35, 0.35)),
        falloff=_uniform(rng, 0.6, 1.05),
        exposure=float(np.clip(rng.normal(-0.45, 0.33), -1.1, 0.1)),
        wetness=rng.normal(0, 1, (7, 9)).astype(np.float32),
        wet=_uniform(rng, 0.05, 0.3),
        gloss=_uniform(rng, -1.2, 1.0),
        camera=camera,
    )


def _lumen(rng: np.random.Generator) -> tuple[float, float]:
    """The point where the gut's axis meets the image: in the frame, or beyond its border."""
    angle = rng.uniform(0, 2 * math.pi)
    distance = _uniform(rng, 0.1, 0.8) if rng.random() < 0.58 else _uniform(rng, 0.9, 2.2)
    return float(1.2 * distance * math.cos(angle)), float(distance * math.sin(angle))


def _folds(rng: np.random.Generator, focal: float, lumen: tuple[float, float]) -> tuple[Fold, ...]:
    depth = focal / (1.3 + 0.8 * math.hypot(*lumen)) * _uniform(rng, 0.8, 1.5)
    spacing = _uniform(rng, 0.35, 1.0)
    folds = []
    phase = rng.uniform(0, 2 * math.pi)
    for _ in range(int(rng.integers(2, 8))):
        height = _uniform(rng, 0.12, 0.55)
        lobes = int(rng.choice((1, 2, 3), p=(0.35, 0.2, 0.45)))
        phase += rng.normal(0.9, 0.8)
        folds.append(Fold(depth, height, lobes, phase, _uniform(rng, 0.25, 0.6), _uniform(rng, 0.03, 0.14)))
        depth += spacing * _uniform(rng, 0.6, 1.4)
    return tuple(folds)


def _polyp(rng: np.random.Generator, lumen: tuple[float, float], border: str, others: list[Blob]) -> Polyp:
    kind = POLYP_KINDS[int(rng.choice(3, p=(0.36, 0.42, 0.22)))]
    area = math.exp(_uniform(rng, math.log(0.03), math.log(0.2)) if rng.random() < 0.85 else math.log(0.3))
    area = min(area, 0.07 if others else 0.18 if kind == "flat" else 0.3)
    ratio = _uniform(rng, 0.55, 0.95) if kind == "flat" else _uniform(rng, 0.68, 1.0)
    radius = math.sqrt(area * FRAME_AREA / math.pi)
    a, b = radius / math.sqrt(ratio), radius * math.sqrt(ratio)
    x, y = _place(rng, lumen, radius, border, others)
    wobble = {"flat": 0.13, "sessile": 0.07, "stalked": 0.06}[kind]
    outline = Blob(x, y, a, b, rng.uniform(0, math.pi), _lobes(rng, wobble))
    away = math.atan2(y - lumen[1], x - lumen[0]) + rng.normal(0, 0.8)
    length = radius * _uniform(rng, 1.3, 2.2)
    shade, hue = rng.normal(-0.05, 0.18), rng.normal(0.24, 0.2)
    skin = np.zeros(4)
    skin[int(rng.integers(4))] = 1.0
    skin[int(rng.integers(4))] += 0.4
    return Polyp(
        kind=kind,
        outline=outline,
        relief=_uniform(rng, *RELIEF[kind]),
        roundness=_uniform(rng, 0.5, 0.9) if kind == "sessile" else 0.5,
        lift=_uniform(rng, 0.08, 0.25) if kind == "stalked" else 0.0,
        foot=(x + length * math.cos(away), y + length * math.sin(away)),
        stem=radius * _uniform(rng, 0.2, 0.4),
        tint=(shade - 0.3 * hue, shade - hue, shade - 0.8 * hue),
        edge=_uniform(rng, 0.04, 0.15) * (1.4 if kind == "flat" else 1.0),
        skin=tuple(skin.tolist()),
        grain=_uniform(rng, 0.08, 0.24),
        bumps=_uniform(rng, 0.003, 0.01),
        vessels=_uniform(rng, 0.0, 0.6),
        offset=(_uniform(rng, 0, 512), _uniform(rng, 0, 512)),
    )


def _place(
    rng: np.random.Generator, lumen: tuple[float, float], radius: float, border: str, others: list[Blob]
) -> tuple[float, float]:
    """A centre on a lit wall, in the field of view, clear of other polyps; now and then near the frame's border."""
    limit = 0.54 if border in ("circle", "octagon", "inset") else 0.74
    if rng.random() < 0.15:
        limit += 0.15
    best, best_score = (0.0, 0.0), -math.inf
    for _ in range(12):
        x, y = _uniform(rng, -limit, limit) * HALF_WIDTH, _uniform(rng, -limit, limit)
        clear = min([math.hypot(x - o.x, y - o.y) - o.reach - 1.2 * radius for o in others], default=0.0)
        deep = math.hypot(x - lumen[0], y - lumen[1]) - 0.3 - 0.5 * radius
        score = min(clear, 0) + min(deep, 0)
        if score > best_score:
            best, best_score = (x, y), score
        if score == 0:
            break
    return best


def _patches(rng: np.random.Generator, polyps: list[Polyp]) -> tuple[Patch, ...]:
    chances = (("bulge", 0.45, 2), ("mucus", 0.3, 2), ("mark", 0.22, 2), ("stool", 0.32, 4), ("bubble", 0.16, 5))
    patches = []
    for kind, chance, most in chances:
        if rng.random() < chance:
            patches += [_patch(rng, kind) for _ in range(int(rng.integers(1, most + 1)))]
    return tuple(patch for patch in patches if patch.kind != "stool" or _is_clear(patch.outline, polyps))


def _is_clear(outline: Blob, polyps: list[Polyp]) -> bool:
    """Whether most of an outline lies beside the polyps: stool seldom lies on one, and never hides one."""
    gaps = [math.hypot(outline.x - p.outline.x, outline.y - p.outline.y) - p.outline.reach for p in polyps]
    return min(gaps, default=1.0) > 0.6 * outline.reach


def _patch(rng: np.random.Generator, kind: str) -> Patch:
    low, high = {
        "bulge": (0.2, 0.6),
        "mucus": (0.15, 0.5),
        "mark": (0.08, 0.24),
        "stool": (0.05, 0.26),
        "bubble": (0.04, 0.14),
    }[kind]
    radius, ratio = math.exp(_uniform(rng, math.log(low), math.log(high))), _uniform(rng, 0.65, 1.0)
    wobble = {"bulge": 0.05, "mucus": 0.2, "mark": 0.06, "stool": 0.14, "bubble": 0.0}[kind]
    outline = Blob(
        _uniform(rng, -1.15, 1.15),
        _uniform(rng, -0.9, 0.9),
        radius / math.sqrt(ratio) if kind != "bubble" else radius,
        radius * math.sqrt(ratio) if kind != "bubble" else radius,
        rng.uniform(0, math.pi),
        _lobes(rng, wobble),
    )
    if kind == "stool":
        tint = np.array([0.0, -0.12, -1.2]) + rng.normal(0, 0.3) + rng.normal(0, 0.15, 3)
    elif kind == "mucus":
        tint = np.array([0.1, 0.2, -0.15]) + rng.normal(0, 0.1, 3)
    else:
        tint = np.array([-0.1, -0.55, -0.45]) * _uniform(rng, 0.4, 1.2)
    return Patch(kind, outline, _uniform(rng, 0.4, 1.0), _triple(tint))


def _camera(rng: np.random.Generator) -> Camera:
    border = str(rng.choice(("none", "octagon", "circle", "inset", "round"), p=(0.4, 0.24, 0.12, 0.12, 0.12)))
    blurred, moved = rng.random() < 0.17, rng.random() < 0.16
    heading, distance = rng.uniform(0, math.pi), _uniform(rng, 0.015, 0.05)
    return Camera(
        border=border,
        border_size=_uniform(rng, 0.92, 1.06),
        corner_box=(_uniform(rng, 0.5, 0.7), _uniform(rng, 0.5, 0.7)) if rng.random() < 0.1 else None,
        vignette=_uniform(rng, 0.0, 0.45),
        defocus=_uniform(rng, 0.008, 0.016) if blurred else _uniform(rng, 0.0025, 0.006),
        motion=(distance * math.cos(heading), distance * math.sin(heading)) if moved else (0.0, 0.0),
        noise=math.exp(_uniform(rng, math.log(0.005), math.log(0.028))),
        jpeg=int(rng.integers(25, 75)) if rng.random() < 0.25 else 0,
        interlace=_uniform(rng, 0.005, 0.012) if rng.random() < 0.04 else 0.0,
        fringe=_uniform(rng, 0.004, 0.016) if rng.random() < 0.2 else 0.0,
    )


def _lobes(rng: np.random.Generator, wobble: float) -> tuple[complex, ...]:
    """Amplitudes of the second to fifth harmonic of an outline, falling with the order."""
    parts = rng.normal(0, wobble, (4, 2)) / np.arange(1.0, 5.0)[:, None]
    return tuple(complex(*np.clip(part, -0.2, 0.2)) for part in parts)


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    """The values (3,) as floats."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue
