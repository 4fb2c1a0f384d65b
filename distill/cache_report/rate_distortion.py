"""Rate and distortion: bytes of a map against its cosine, for the code and for simpler ways to store it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import cache
from cache import Codec
from cache.quality import cosine
from cache.series import dct, series
from distill.cache_report.report import table
from distill.cache_report.teacher_agreement import centred

FIDELITIES = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Shares of components kept by PCA alone, and of coefficients kept by the cosine transform alone."""

BITS = (2, 3, 4, 6, 8)
HALF = 2
"""Bytes per number in half precision."""


@dataclass(frozen=True)
class Rate:
    """One way to store a map: its bytes and the cosine after decoding, means over held-out images."""

    map: str
    way: str  # code, PCA only, DCT only, int8 (and fewer bits), fp16, fp32
    setting: str
    bytes: float
    cosine: float  # over the channels of a cell, centred and scaled


def rates(name: str, codec: Codec, calibration: Tensor, maps: Tensor) -> list[Rate]:
    """All ways to store one map.

    Args:
        name: of the map.
        codec: of the cache; its mean and scale centre and scale the maps.
        calibration: raw maps (N, C, h, w) on which each way is fitted.
        maps: held-out raw maps (M, C, h, w).
    """
    size = maps[0].numel()
    found = [
        Rate(name, "fp32", "", 4 * size, 1.0),
        Rate(name, "fp16", "", HALF * size, _agree(codec, maps, maps.half())),
    ]
    found += [
        Rate(name, "code", f"fidelity {asked:g}", *_coded(codec, calibration, maps, asked)) for asked in FIDELITIES
    ]
    ways = {"integers": _integers, "PCA only": _components, "DCT only": _coefficients}
    for way, store in ways.items():
        for setting, count, decoded in store(codec, calibration, maps):
            found.append(Rate(name, way, setting, count, _agree(codec, maps, decoded)))
    return found


def _agree(codec: Codec, maps: Tensor, decoded: Tensor) -> float:
    """The mean cosine of raw maps (M, C, h, w) and their decoded forms, by `centred`."""
    return cosine(centred(codec, maps), centred(codec, decoded)).mean().item()


def _coded(codec: Codec, calibration: Tensor, maps: Tensor, asked: float) -> tuple[float, float]:
    """Bytes per map and cosine of maps (M, C, h, w), by a code fitted to `calibration` (N, C, h, w) at a fidelity."""
    fitted = cache.fit(calibration, fidelity=asked)
    codes = fitted.encode_batch(maps)
    decoded = torch.stack([fitted.inverse(fitted.decode(code)) for code in codes])
    return sum(len(part) for code in codes for part in code.values()) / len(codes), _agree(codec, maps, decoded)


def _integers(codec: Codec, calibration: Tensor, maps: Tensor) -> Iterator[tuple[str, float, Tensor]]:
    """Yields settings, bytes per map and decoded maps (M, C, h, w): each channel quantised linearly to some bits,
    between its extremes on the calibration maps.
    """
    lowest, highest = calibration.transpose(0, 1).flatten(1).float().aminmax(dim=1)
    for bits in BITS:
        step = ((highest - lowest) / (2**bits - 1)).clamp_min(torch.finfo(torch.float32).tiny)[:, None, None]
        levels = ((maps.float() - lowest[:, None, None]) / step).round().clamp(0, 2**bits - 1)
        yield f"{bits} bits", maps[0].numel() * bits / 8, levels * step + lowest[:, None, None]


def _components(codec: Codec, calibration: Tensor, maps: Tensor) -> Iterator[tuple[str, float, Tensor]]:
    """Yields settings, bytes per map and decoded maps (M, C, h, w): first principal components in half precision."""
    normal = centred(codec, calibration).transpose(0, 1).flatten(1).double()
    axes = torch.linalg.eigh(normal @ normal.T)[1].flip(1).float()
    for count in _counts(axes.shape[1]):
        basis = axes[:, :count]
        kept = torch.einsum("ck,nchw->nkhw", basis, centred(codec, maps)).half().float()
        decoded = torch.einsum("ck,nkhw->nchw", basis, kept)
        yield f"{count} components", HALF * kept[0].numel(), _raw(codec, decoded)


def _coefficients(codec: Codec, calibration: Tensor, maps: Tensor) -> Iterator[tuple[str, float, Tensor]]:
    """Yields settings, bytes per map and decoded maps (M, C, h, w): the lowest frequencies of each channel in half
    precision, in the proportions of the grid.
    """
    grid = (maps.shape[-2], maps.shape[-1])
    spectrum = dct(centred(codec, maps))
    corners = {(max(1, round(grid[0] * share**0.5)), max(1, round(grid[1] * share**0.5))) for share in SHARES}
    for high, wide in sorted(corners):
        kept = spectrum[..., :high, :wide].half().float()
        yield f"{high} x {wide} frequencies", HALF * kept[0].numel(), _raw(codec, series(kept, grid))


def _counts(channels: int) -> list[int]:
    return sorted({max(1, round(channels * share)) for share in SHARES})


def _raw(codec: Codec, normal: Tensor) -> Tensor:
    """Raw maps from centred and scaled ones (..., C, h, w): the inverse of `centred`."""
    return normal / codec.gain * codec.scale[:, None, None] + codec.mean[:, None, None]


def rate_lines(found: Sequence[Rate], *, images: int) -> list[str]:
    """The rates as Markdown."""
    rows = [(rate.map, rate.way, rate.setting, f"{rate.bytes:,.0f}", f"{rate.cosine:.4f}") for rate in found]
    title = f"## Bytes against cosine, {images} held-out images"
    return [title, "", *table(("map", "way", "setting", "bytes", "cosine"), rows, words=3), ""]
