"""A cache against the live teacher on held-out images: the cached view, a mirrored code, a crop of the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import Cache, Codec
from cache.quality import cosine, reference_bytes
from cache.series import Box, dct, series
from cache.spec import flip
from distill.cache_report.report import table
from distill.data.sample import Sample
from distill.runs.run import Run

BANDS = ("low", "high", "all")
BOX: Box = (0.125, 0.25, 0.75, 0.875)
"""(y0, x0, y1, x1) of the crop shown to the teacher; its border is rounded to whole pixels."""

CASES = {
    "cached view": "the code of an image against the teacher's features of that image",
    "mirrored": "the mirrored code of an image against the teacher's features of the mirrored image",
    "crop": "a crop of the code against the teacher's features of the cropped image, on the same grid",
}


@dataclass(frozen=True)
class Agreement:
    """Cosine and error of a code against the live teacher; means over held-out images.

    Attributes:
        map: name of the map.
        case: a key of CASES.
        band: low, high or all; for a crop, the bands of its own grid.
        cosine: over the channels of a cell, in the centred and scaled space, mean over cells.
        raw: the same for the teacher's own maps, including their mean (except in the high band).
        error: the norm of the difference over that of the teacher's map, in the centred and scaled space.
        without: `cosine` with the map itself in place of the code, so the loss is by mirroring or cropping alone.
    """

    map: str
    case: str
    band: str
    cosine: float
    raw: float
    error: float
    without: float


@dataclass(frozen=True)
class Reference:
    """The bytes of held-out codes beside the Gaussian rate-distortion function at their decoding error."""

    map: str
    code: float  # bytes of both bands, mean over images
    reference: float  # bytes; 0 if the error exceeds the variance

    @classmethod
    def of(cls, name: str, codec: Codec, codes: Sequence[Mapping[str, bytes]], maps: Tensor) -> Reference:
        """Compares codes with their raw maps (N, C, h, w); the error is that of the kept components."""
        decoded = torch.stack([codec.decode(code) for code in codes])
        error = (codec.project(maps) - decoded).square().sum().item() / len(codes)
        size = sum(len(part) for code in codes for part in code.values()) / len(codes)
        variances = codec.variances.numpy()
        return cls(name, size, reference_bytes(variances, error) if error < variances.sum() else 0.0)


def held_out(run: Run, store: Cache, count: int) -> list[Sample]:
    """At most `count` validation images on which the codecs were not fitted, evenly spread by key.

    Raises:
        ValueError: there are none.
    """
    fitted = set(store.calibration)
    free = sorted((sample for sample in run.splits.val if sample.key not in fitted), key=lambda sample: sample.key)
    if not free:
        raise ValueError("the codecs were fitted on all validation images of this data; set other data.* keys")
    return [free[round(place)] for place in np.linspace(0, len(free) - 1, min(count, len(free)))]


def extract_maps(teacher: Any, images: Sequence[np.ndarray], *, size: int) -> dict[str, Tensor]:  # noqa: ANN401
    """The teacher's maps (N, C, h, w) of uint8 images, on the CPU, `size` images at a time."""
    parts = [teacher(list(images[first : first + size])) for first in range(0, len(images), size)]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def agreements(
    store: Cache,
    teacher: Any,  # noqa: ANN401
    samples: Sequence[Sample],
    *,
    size: int,
) -> tuple[list[Agreement], list[Reference]]:
    """Agreement in every case and band of every map, and each map's bytes beside the Gaussian reference.

    Args:
        store: the cache; its own code is used if it holds the image, else the map is coded anew.
        teacher: the teacher with which the cache was made.
        samples: held-out images.
        size: images per forward pass.

    Raises:
        ValueError: it is another teacher; the message names the difference.
    """
    store.check_identity(teacher.identity)
    images = [sample.read_image() for sample in samples]
    crops, boxes = zip(*(cut(image) for image in images), strict=True)
    whole_maps = extract_maps(teacher, images, size=size)
    mirrored = extract_maps(teacher, [flip(image, "hflip", axes=(0, 1)) for image in images], size=size)
    cropped = extract_maps(teacher, crops, size=size)
    found, references = [], []
    for name, codec in store.codecs.items():
        codes = codes_of(store, samples, name=name, maps=whole_maps[name])
        references.append(Reference.of(name, codec, codes, whole_maps[name]))
        tables: dict[tuple[str, str], list[list[float]]] = {}
        for index, (code, box) in enumerate(zip(codes, boxes, strict=True)):
            whole, other, part = (centred(codec, maps[name][index]) for maps in (whole_maps, mirrored, cropped))
            for case, pairs in compare(codec, code, whole, mirrored=other, cropped=part, box=box).items():
                for band, (truth, coded, uncoded) in pairs.items():
                    row = measure(codec, truth, coded, uncoded, mean=band != "high")
                    tables.setdefault((case, band), []).append(row)
        for (case, band), rows in tables.items():
            found.append(Agreement(name, case, band, *(float(value) for value in np.mean(rows, axis=0))))
    return found, references


def codes_of(store: Cache, samples: Sequence[Sample], *, name: str, maps: Tensor) -> list[Mapping[str, bytes]]:
    """The code of each image: from the cache if it holds it, else of the raw `maps` (N, C, h, w)."""
    return [
        store.read(sample.key, "identity", map=name)
        if (sample.key, "identity") in store
        else store.codecs[name].encode(features)
        for sample, features in zip(samples, maps, strict=True)
    ]


def cut(image: np.ndarray) -> tuple[np.ndarray, Box]:
    """The crop of an image (H, W, 3) at BOX, and its exact box."""
    height, width = image.shape[:2]
    y0, x0, y1, x1 = (round(side * edge) for side, edge in zip((height, width) * 2, BOX, strict=True))
    return np.ascontiguousarray(image[y0:y1, x0:x1]), (y0 / height, x0 / width, y1 / height, x1 / width)


def centred(codec: Codec, features: Tensor) -> Tensor:
    """Raw maps (..., C, h, w), centred and scaled to the units of the coded space, with all channels."""
    return (features.float() - codec.mean[:, None, None]) / codec.scale[:, None, None] * codec.gain


def channels(codec: Codec, components: Tensor) -> Tensor:
    """Decoded components (K, h, w) as centred and scaled channels (C, h, w)."""
    return (codec.basis @ components.flatten(1)).unflatten(1, components.shape[1:])


def split(maps: Tensor, cutoff: int) -> dict[str, Tensor]:
    """The low band, the high band and all of a map (C, h, w)."""
    grid = (maps.shape[-2], maps.shape[-1])
    low = series(dct(maps)[..., :cutoff, :cutoff], grid)
    return {"low": low, "high": maps - low, "all": maps}


def compare(
    codec: Codec, code: Mapping[str, bytes], whole: Tensor, *, mirrored: Tensor, cropped: Tensor, box: Box
) -> dict[str, dict[str, tuple[Tensor, Tensor, Tensor]]]:
    """{case: {band: (teacher's map, map by the code, map without the code)}}, centred and scaled channels (C, h, w).

    Args:
        codec: of the map.
        code: of the image.
        whole: the teacher's map of the image.
        mirrored: its map of the mirrored image.
        cropped: its map of the image inside `box`.
        box: (y0, x0, y1, x1) of the crop.
    """
    decoded = channels(codec, codec.decode(code))
    crop = channels(codec, codec.decode(code, box=box, grid=codec.grid))
    itself = series(dct(whole), codec.grid, box=box, grid=codec.grid)
    triples = {
        "cached view": (whole, decoded, whole),
        "mirrored": (mirrored, flip(decoded, "hflip"), flip(whole, "hflip")),
        "crop": (cropped, crop, itself),
    }
    return {case: dict(_by_band(codec, maps)) for case, maps in triples.items()}


def _by_band(codec: Codec, maps: tuple[Tensor, Tensor, Tensor]) -> Iterator[tuple[str, tuple[Tensor, Tensor, Tensor]]]:
    """Each band of three maps (C, h, w), in the order of `compare`."""
    truth, coded, itself = (split(each, codec.cutoff) for each in maps)
    for band in BANDS:
        yield band, (truth[band], coded[band], itself[band])


def measure(codec: Codec, truth: Tensor, coded: Tensor, itself: Tensor, *, mean: bool) -> list[float]:
    """[cosine, raw cosine, relative error, cosine without the code] of maps (C, h, w) as from `compare`."""
    scale, origin = codec.scale[:, None, None] / codec.gain, codec.mean[:, None, None] * mean
    raw = cosine(truth * scale + origin, coded * scale + origin)
    error = (truth - coded).norm() / truth.norm().clamp_min(torch.finfo(truth.dtype).tiny)
    return [cosine(truth, coded).item(), raw.item(), error.item(), cosine(truth, itself).item()]


def agreement_lines(found: Sequence[Agreement], references: Sequence[Reference], *, images: int) -> list[str]:
    """The agreements and the bytes beside the reference, as Markdown."""
    rows = [
        (each.map, each.case, each.band, *(f"{v:.3f}" for v in (each.cosine, each.raw, each.error, each.without)))
        for each in found
    ]
    heads = ("map", "case", "band", "cosine", "raw cosine", "relative error", "cosine without the code")
    legend = [f"- {case}: {meaning}" for case, meaning in CASES.items()]
    title = f"## Against the live teacher, {images} held-out images"
    sizes = [
        f"{each.map}: {each.code:,.0f} bytes, {each.code / max(each.reference, 1):.2f} x the Gaussian reference "
        f"({each.reference:,.0f}) at the error measured here."
        for each in references
    ]
    return [title, "", *legend, "", *table(heads, rows, words=3), "", *sizes, ""]
