"""`distill bench what=cache`: bytes against the Gaussian reference and other codes; then decoding and extraction."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

import cache
from cache.shard import pack
from distill.bench.codebooks import codebook_rows
from distill.bench.decoding import decode_rows
from distill.bench.extraction import extract_rows
from distill.bench.inputs import efficientnet, images_of
from distill.bench.request import Request
from distill.cache_report.teacher_agreement import Reference, extract_maps
from distill.runtime.timing import Row, told

KEYS = {
    "images": "folder of pictures; default: generated frames",
    "weights": "file of EfficientNet-B0's weights in timm's names; default: random weights, without a report of bytes",
    "sam": "images that a random SAM ViT-B extracts in each round (2); 0 leaves it out",
}
FIDELITIES = (0.8, 0.9, 0.95)
FITTED, OTHERS = 256, 64  # images on which a code is fitted, and others on which it is measured
BUILTIN = (128, 128)  # of a generated frame, as the built-in teacher expects

logger = logging.getLogger("bandpass")


def measure(request: Request) -> list[Row]:
    """The rows of sizes, decoding and extraction."""
    return told(chain(size_rows(request), decode_rows(request), extract_rows(request)))


def size_rows(request: Request) -> Iterator[Row]:
    """The built-in teacher on generated frames; EfficientNet if `weights` and `images` are given."""
    import teachers

    frames = images_of(replace(request, options={}), FITTED + OTHERS, size=BUILTIN)
    yield from rows_of("built-in SAM", teachers.load("sam", weights="builtin"), frames)
    if not (request.options.get("weights") and request.options.get("images")):
        logger.info("the bytes of EfficientNet's features are left out, because random weights say nothing: "
                    "give weights=FILE images=DIR")  # fmt: skip
        return
    with tempfile.TemporaryDirectory() as folder:
        teacher = efficientnet(request, Path(folder))
        yield from rows_of("EfficientNet-B0", teacher, images_of(request, FITTED + OTHERS))


def rows_of(name: str, teacher: Any, images: list[Any]) -> Iterator[Row]:  # noqa: ANN401
    """Every map of a teacher at each of FIDELITIES; codes are not fitted on the last OTHERS images."""
    for entry, maps in extract_maps(teacher, images, size=8).items():
        fitted, others = maps[:-OTHERS].half(), maps[-OTHERS:]
        yield from map_rows(f"{name}, {entry}", fitted, others, deep="stride16" in entry)
        if "stride16" in entry:
            yield from codebook_rows(f"{name}, {entry}", fitted, others)


def map_rows(label: str, fitted: Tensor, others: Tensor, *, deep: bool) -> Iterator[Row]:
    """One map at each of FIDELITIES.

    Args:
        label: names the map in the table.
        fitted: raw maps (n, C, h, w) on which the code is fitted.
        others: raw maps (m, C, h, w) that are coded and counted, with indexes and tables of their shards.
        deep: whether half precision should be ten times as large at fidelity 0.90.
    """
    raw = 2 * others[0].numel()
    for fidelity in FIDELITIES:
        codec = cache.fit(fitted, fidelity=fidelity)
        codes = codec.encode_batch(others)
        size = size_of(codes, fidelity=fidelity)
        reference = Reference.of("map", codec, codes, others).reference
        energies = codec.energies()
        shares = ", ".join(f"{band} {100 * part / sum(energies.values()):.0f} %" for band, part in energies.items())
        shape = " x ".join(map(str, others.shape[1:]))
        reached = codec.fidelity(others, codes)
        statistics = len(codec.to_bytes()) / 1e3
        note = f"{shape}, {size:,.0f} bytes, fidelity reached {reached:.4f}"
        figure = f"{label}, fidelity {fidelity:.2f}: bytes"
        yield Row(f"{figure} against the Gaussian reference", size / reference, "x",
                  at_most=1.5 if fidelity == 0.95 else None,
                  note=f"{note}, reference {reference:,.0f}; statistics {statistics:,.0f} kB once")  # fmt: skip
        yield Row(f"{figure}, how many times below fp16", raw / size, "x",
                  at_least=10 if deep and fidelity == 0.9 else None,
                  note=f"fp16 {raw:,} bytes; energy {shares}")  # fmt: skip
        yield shell_row(figure, fitted, others, fidelity=fidelity, plain=size, reference=reference)


def shell_row(figure: str, fitted: Tensor, others: Tensor, *, fidelity: float, plain: float, reference: float) -> Row:
    """Bytes of a code with `shells` against those without, `plain`, and against the `reference`; maps as above."""
    codec = cache.fit(fitted, fidelity=fidelity, shells=True)
    codes = codec.encode_batch(others)
    size = size_of(codes, fidelity=fidelity)
    reached = f"{size:,.0f} bytes, {size / plain:.3f} x, fidelity reached {codec.fidelity(others, codes):.4f}"
    statistics = f"statistics {len(codec.to_bytes()) / 1e3:,.0f} kB once"
    return Row(f"{figure} with cache.shells, against the same reference", size / reference, "x",
               at_most={0.8: 0.95, 0.95: 1.05}.get(fidelity), note=f"{reached}; {statistics}")  # fmt: skip


def size_of(codes: Sequence[Mapping[str, bytes]], *, fidelity: float) -> float:
    """The mean bytes per code in a shard of these codes, with index and tables."""
    records = [(f"{number:064x}", "identity", {"map": code}) for number, code in enumerate(codes)]
    return len(pack(records, manifest="0" * 64, fidelity={"map": fidelity})[1]) / len(codes)
