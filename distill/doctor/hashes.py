"""Hashes of images, and every pair that differs in few bits: complete, and minutes for a million images.

The hash has a bit for each pair of neighbouring cells of an 8 x 8 thumbnail: which of the two is brighter (a difference
hash in both directions, 112 bits). Its bits are dealt out to seven bands of 16. If two hashes differ in at most 12
bits, one of the first six bands differs in at most one bit, or the last is equal: else they would differ in 2 x 6 + 1.
All pairs are thus among those whose bands are in one bucket, or in neighbouring ones (multi-index hashing, Norouzi,
Punjani and Fleet, 2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SIDE = 32  # of a thumbnail
CELLS = 8  # a side of the grid that is hashed
BITS = 2 * CELLS * (CELLS - 1)
NEAR_BITS = 12  # in which the hashes of near copies may differ
BAND_BITS = 16
RADII = (1, 1, 1, 1, 1, 1, 0)  # bits in which a band may differ
DEALT = np.random.default_rng(0).permutation(BITS)  # bits of a band should be nearly independent
HASHED_AT_ONCE = 8192  # thumbnails: 64 MB
COMPARED_AT_ONCE = 1 << 21  # pairs of hashes: 100 MB

Hashes = NDArray[np.uint16]  # (n, 8): a column a band, and one of zeros
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

assert sum(radius + 1 for radius in RADII) > NEAR_BITS
assert len(RADII) * BAND_BITS == BITS


def hash_images(thumbnails: NDArray[np.uint8]) -> Hashes:
    """The hashes (n, 8) of thumbnails (n, 32, 32)."""
    step, hashes = SIDE // CELLS, np.zeros((len(thumbnails), len(RADII) + 1), np.uint16)
    for start in range(0, len(thumbnails), HASHED_AT_ONCE):
        grey = thumbnails[start : start + HASHED_AT_ONCE].astype(np.float32)
        cells = grey.reshape(len(grey), CELLS, step, CELLS, step).mean(axis=(2, 4))
        right, down = np.diff(cells, axis=2) > 0, np.diff(cells, axis=1) > 0
        bits = np.concatenate([right.reshape(len(grey), -1), down.reshape(len(grey), -1)], axis=1)[:, DEALT]
        packed = np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint16)
        hashes[start : start + len(grey), : len(RADII)] = packed
    return hashes


def near_pairs(hashes: Hashes, others: Hashes) -> Iterator[Pairs]:
    """Every pair (i, j), i < j, once, whose `hashes[i]` and `others[j]` differ in at most `NEAR_BITS`, in batches.

    Args:
        hashes: of images, (n, 8).
        others: of the same images, turned or not.
    """
    for band, radius in enumerate(RADII):
        for first, second in pairs_of_band(hashes, others, band=band, radius=radius):
            differing = count_bits(hashes[first] ^ others[second])[:, : len(RADII)]
            near = differing.sum(axis=1, dtype=np.uint8) <= NEAR_BITS
            near &= ~(differing[:, :band] <= RADII[:band]).any(axis=1)  # else an earlier band has found it
            yield first[near], second[near]


def pairs_of_band(hashes: Hashes, others: Hashes, *, band: int, radius: int) -> Iterator[Pairs]:
    """Pairs (i, j), i < j, of hashes (n, 8) in which a band differs in at most `radius` bits, four in `NEAR_BITS`."""
    count = len(hashes)
    if not count:
        return
    buckets = np.sort(others[:, band].astype(np.int64) * count + np.arange(count))  # by band, then by place
    second = buckets % count
    first = np.argsort(hashes[:, band], kind="stable")
    bands, ends = hashes[first, band].astype(np.int64), np.searchsorted(buckets, count * np.arange(1, 2**BAND_BITS + 1))
    half = 4 * (band < 4)  # the four bands without this one tell the most
    own, other = (one[order, half : half + 4].copy().view(np.uint64)[:, 0]
                  for one, order in ((hashes, first), (others, second)))  # fmt: skip
    for mask in [0, *(1 << bit for bit in range(BAND_BITS * radius))]:
        wanted = bands ^ mask  # the bucket of each i; its j > i lie from `start` on, `lengths` of them
        start = np.searchsorted(buckets, wanted * count + first + 1)
        lengths = ends[wanted] - start
        total = np.cumsum(lengths)
        cuts = [*np.searchsorted(total, np.arange(0, total[-1], COMPARED_AT_ONCE), side="right"), count]
        for low, high in pairwise(cuts):  # as many i as have about so many j together
            some = lengths[low:high]
            places = np.repeat(start[low:high] - (total[low:high] - some), some)
            places += np.arange(total[low] - lengths[low], total[low] - lengths[low] + len(places))
            few = np.flatnonzero(count_bits(np.repeat(own[low:high], some) ^ other[places]) <= NEAR_BITS)
            sources = low + np.searchsorted(total[low:high], total[low] - lengths[low] + few, side="right")
            yield first[sources], second[places[few]]


def count_bits(words: NDArray) -> NDArray:
    """The number of set bits in each of some unsigned words of any shape, which are overwritten.

    Neighbouring bits are added, then neighbouring sums; numpy has `bitwise_count` from 2.0 on.
    """
    kind, size = words.dtype.type, 8 * words.dtype.itemsize
    full = (1 << size) - 1
    pairs, fours, eights, ones = (kind(full // divisor) for divisor in (3, 5, 17, 255))
    words -= (words >> kind(1)) & pairs
    words = (words & fours * kind(1)) + ((words >> kind(2)) & fours)
    words += words >> kind(4)
    words &= eights
    words *= ones
    words >>= kind(size - 8)
    return words
