"""Near copies of images, also mirrored: a perceptual hash proposes pairs, two correlations on thumbnails decide.

Pairs whose hashes differ in few bits are compared on thumbnails of 32 x 32 grey levels. The correlation of the whole
finds copies that were scaled, re-encoded or brightened. The correlation of the details in the middle rejects smooth
frames that merely share a dark border. The limits were set by eye on the 1,612 images of Kvasir-SEG and CVC-ClinicDB;
cropped copies are not found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cache.spec import VIEWS, flip
from distill.doctor.hashes import hash_images, near_pairs

WHOLE = 0.9895  # least correlation of two thumbnails
DETAIL = 0.4  # least correlation of details finer than `BLUR` in their middle
BLUR = 2.0  # standard deviation in cells of a thumbnail
MARGIN = 6  # cells at each border that hold no detail but the edge of the field of view
PAIRS_AT_ONCE = 8192  # pairs that are correlated at once: 64 MB

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Near:
    """Pairs of near copies, as arrays (p,): video frames may give many millions."""

    first: NDArray[np.int64]  # places, each less than that in `second`
    second: NDArray[np.int64]
    view: NDArray[np.uint8]  # place in `VIEWS` under which the second looks like the first
    correlation: Values

    def where(self, chosen: NDArray[np.bool_]) -> Near:
        """The chosen pairs (p,), in their order."""
        return Near(self.first[chosen], self.second[chosen], self.view[chosen], self.correlation[chosen])


def find_near(thumbnails: NDArray[np.uint8]) -> Near:
    """Near copies among thumbnails (n, 32, 32): every pair once, under its best view, most alike first."""
    count, hashes = max(len(thumbnails), 1), hash_images(thumbnails)
    codes, views, likenesses = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)], [np.zeros(0, np.float32)]
    for number, view in enumerate(VIEWS):
        turned = np.ascontiguousarray(flip(thumbnails, view, axes=(1, 2)))
        for proposed in near_pairs(hashes, hash_images(turned)):
            for start in range(0, len(proposed[0]), PAIRS_AT_ONCE):
                first, second = (part[start : start + PAIRS_AT_ONCE] for part in proposed)
                fits, likeness = correlate(thumbnails, turned, first, second)
                codes.append(first[fits] * count + second[fits])
                likenesses.append(likeness)
                views.append(np.full(len(likeness), number, np.uint8))
    code, likeness, seen = np.concatenate(codes), np.concatenate(likenesses), np.concatenate(views)
    order = np.lexsort((code, -likeness))
    _, once = np.unique(code[order], return_index=True)  # of a pair under several views, the first in this order
    kept = order[np.sort(once)]
    return Near(code[kept] // count, code[kept] % count, seen[kept], likeness[kept])


def correlate(
    thumbnails: NDArray[np.uint8], turned: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], Values]:
    """Whether each pair is a near copy (p,), and the correlations of those that are.

    Args:
        thumbnails: grey levels (n, 32, 32).
        turned: the same under a view.
        first: places in `thumbnails`, (p,).
        second: places in `turned`, (p,).
    """
    likeness = correlation(normalise, thumbnails, turned, first, second)
    fits = likeness >= WHOLE
    fits[fits] = correlation(details, thumbnails, turned, first[fits], second[fits]) >= DETAIL
    return fits, likeness[fits]


def correlation(
    vectors: Callable[[Values], Values],
    thumbnails: NDArray[np.uint8],
    turned: NDArray[np.uint8],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> Values:
    """The products (p,) of the `vectors` of pairs; each image's vectors are computed once."""
    sides = []
    for grey, places in ((thumbnails, first), (turned, second)):
        own, of = np.unique(places, return_inverse=True)
        sides.append(vectors(grey[own].astype(np.float32))[of])
    return np.einsum("ij,ij->i", *sides)


def normalise(grey: Values) -> Values:
    """Thumbnails (n, h, w) as vectors (n, h * w) of mean 0 and length 1, whose products are correlations.

    A vector is 0 if all cells are alike.
    """
    flat = grey.reshape(len(grey), grey.shape[1] * grey.shape[2])
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-3)


def details(grey: Values) -> Values:
    """The details, finer than a blur, in the middle of thumbnails (n, 32, 32), as normalised vectors (n, cells)."""
    fine = grey - gaussian_filter(grey, (0, BLUR, BLUR))
    return normalise(fine[:, MARGIN:-MARGIN, MARGIN:-MARGIN])


def components(near: Near, count: int) -> NDArray[np.int64]:
    """The group number of each image, (count,); pairs connect images."""
    edges = coo_array((np.ones(len(near.first), np.bool_), (near.first, near.second)), shape=(count, count))
    return connected_components(edges, directed=False)[1].astype(np.int64)
