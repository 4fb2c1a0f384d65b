"""Published codes for single feature vectors, beside the cache's code for whole maps.

Product quantisation (Jegou, Douze and Schmid 2011) gives every group of channels its own codebook. Multi-codebook
quantisation (Guo et al. 2022, MVQ-KD) sums one entry of each codebook. Here the codebooks are fitted one after the
other, each to the residual of those before (residual quantisation), without the paper's later joint refinement.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import cache
from cache.quality import cosine
from distill.runtime.timing import Row

ENTRIES = 256  # of a codebook: one byte per index
BOOKS = (8, 16)  # numbers of codebooks, which equal bytes per cell
CELLS, ROUNDS = 20_000, 15  # cells on which a codebook is fitted, and rounds of k-means


def codebook_rows(label: str, fitted: Tensor, others: Tensor) -> Iterator[Row]:
    """Bits per cell of both codes against ours at the same cosine, on maps on which no code is fitted.

    Args:
        label: names the map in the table.
        fitted: raw maps (n, C, h, w) on which codes are fitted.
        others: raw maps (m, C, h, w) that are coded.
    """
    mean, scale = fitted.float().mean((0, 2, 3)), fitted.float().std((0, 2, 3)).clamp_min(1e-6)
    known, unknown = (cells_of(maps, mean, scale) for maps in (fitted, others))
    chosen = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))[:CELLS]
    for count in BOOKS:
        for name, quantise in (("product quantisation", product), ("residual quantisation", residual)):
            decoded = quantise(known[chosen], unknown, count)
            reached = cosine(unknown.T[:, :, None], decoded.T[:, :, None]).item()
            codec = cache.fit(fitted, fidelity=reached)
            codes = codec.encode_batch(others)
            ours = 8 * sum(len(part) for code in codes for part in code.values()) / len(unknown)
            yield Row(
                f"{label}: {name}, {count} codebooks of {ENTRIES}: bits against ours at its cosine",
                8 * count / ours,
                "x",
                note=f"{8 * count} bits a cell, cosine {reached:.4f}; ours {ours:.1f} bits, "
                f"{codec.fidelity(others, codes):.4f}",
            )


def cells_of(maps: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """The cells of maps (n, C, h, w), centred and scaled, as float32 (n * h * w, C)."""
    return ((maps.float() - mean[:, None, None]) / scale[:, None, None]).permute(0, 2, 3, 1).flatten(0, 2)


def product(known: Tensor, unknown: Tensor, count: int) -> Tensor:
    """`unknown` (m, C) as entries of `count` codebooks, each for its own channels, fitted on `known` (n, C)."""
    parts = zip(known.tensor_split(count, 1), unknown.tensor_split(count, 1), strict=True)
    return torch.cat([(book := codebook(fit))[nearest(part, book)] for fit, part in parts], 1)


def residual(known: Tensor, unknown: Tensor, count: int) -> Tensor:
    """`unknown` (m, C) as sums of entries of `count` codebooks, each fitted on the residual of `known` (n, C)."""
    left, rest = known, unknown
    for _ in range(count):
        book = codebook(left)
        left, rest = left - book[nearest(left, book)], rest - book[nearest(rest, book)]
    return unknown - rest


def codebook(vectors: Tensor) -> Tensor:
    """The centres (ENTRIES, C) of vectors (n, C) by k-means; a centre that is nearest to no vector stays in place."""
    random = torch.Generator().manual_seed(0)
    centres = vectors[torch.randperm(len(vectors), generator=random)[:ENTRIES]].clone()
    for _ in range(ROUNDS):
        mine = nearest(vectors, centres)
        counts = torch.bincount(mine, minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add_(0, mine, vectors)
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres


def nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    """The number of the nearest centre (k, C) of each vector (n, C), int64 (n,)."""
    return torch.cat([(centres.square().sum(1) - 2 * part @ centres.T).argmin(1) for part in vectors.split(CELLS)])
