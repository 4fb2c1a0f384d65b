"""Pairs of near hashes: every one, once, as an exhaustive search finds them."""

from __future__ import annotations

import numpy as np
import pytest

from cache.spec import VIEWS, flip
from distill.data.synthetic.generator import render
from distill.doctor.hashes import BAND_BITS, BITS, NEAR_BITS, RADII, SIDE, count_bits, hash_images, near_pairs


def exhaustive(hashes: np.ndarray, others: np.ndarray) -> set[tuple[int, int]]:
    """Every pair (i, j), i < j, by the products of all hashes as signs: bits that agree less those that differ."""
    signs, turned = (
        np.where(np.unpackbits(one.view(np.uint8), axis=1), np.float32(1), np.float32(-1)) for one in (hashes, others)
    )
    found = set()
    for start in range(0, len(signs), 256):
        rows, columns = np.nonzero(signs[start : start + 256] @ turned.T >= signs.shape[1] - 2 * NEAR_BITS)
        found |= {(start + i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if start + i < j}
    return found


def found(hashes: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    return [pair for some in near_pairs(hashes, others) for pair in zip(*(part.tolist() for part in some), strict=True)]


def planted(count: int, near: int) -> np.ndarray:
    """Random hashes, of which some differ from another in 0 to 15 bits."""
    random = np.random.default_rng(0)
    hashes = np.zeros((count, len(RADII) + 1), np.uint16)
    hashes[:, : len(RADII)] = random.integers(0, 2**BAND_BITS, (count, len(RADII)), dtype=np.uint16)
    for _ in range(near):
        one, other = random.integers(count, size=2)
        hashes[other] = hashes[one]
        for bit in random.permutation(BITS)[: random.integers(16)]:
            hashes[other, bit % len(RADII)] ^= np.uint16(1 << (bit // len(RADII)))
    return hashes


@pytest.mark.parametrize("count", [0, 1, 300, 20_000])
def test_every_pair_of_near_hashes_is_found_once_as_by_an_exhaustive_search(count):
    hashes = planted(count, count // 20)
    pairs = found(hashes, hashes)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == exhaustive(hashes, hashes)
    assert count < 300 or len(pairs) > count // 40


def test_pairs_are_found_in_every_view_of_frames_that_resemble_one_another():
    frames = np.stack([render(0, index, size=(SIDE, SIDE))[0].mean(axis=2).astype(np.uint8) for index in range(60)])
    frames = np.concatenate([frames, frames[::2, :, ::-1], frames[:20] // 2])
    hashes = hash_images(frames)
    for view in VIEWS:
        turned = hash_images(np.ascontiguousarray(flip(frames, view, axes=(1, 2))))
        pairs = found(hashes, turned)
        assert len(pairs) == len(set(pairs))
        assert set(pairs) == exhaustive(hashes, turned)


def test_bits_are_counted():
    words = np.array([0, 1, 0xFFFF, 0xA5A5, 0x8000], np.uint16)
    assert count_bits(words).tolist() == [0, 1, 16, 8, 1]
    assert count_bits(np.array([2**64 - 1, 2**63], np.uint64)).tolist() == [64, 1]
