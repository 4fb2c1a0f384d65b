"""Near copies of images, also mirrored: a perceptual hash proposes, two correlations on thumbnails decide.

The hash has a bit for each pair of neighbouring cells of an 8 x 8 thumbnail: which of the two is brighter (a difference
hash in both directions). Pairs within `NEAR_BITS` are compared on thumbnails of 32 x 32 grey levels: the correlation of
the whole, which finds copies that were scaled, re-encoded or brightened, and that of the details in the middle, without
which two smooth frames behind the same dark border would count as copies. The limits were set by eye on the 1,612
images of Kvasir-SEG and CVC-ClinicDB; cropped copies are not found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cache.spec import VIEWS, flip

SIDE = 32  # of a thumbnail
CELLS = 8  # a side of the grid that is hashed
NEAR_BITS = 12  # of the hash's 112 in which near copies may differ
WHOLE = 0.9895  # least correlation of two thumbnails
DETAIL = 0.4  # least correlation of what is finer than `BLUR` in their middle
BLUR = 2.0  # standard deviation in cells of a thumbnail
MARGIN = 6  # cells at each border that hold no detail but the edge of the field of view
AT_ONCE = 256  # thumbnails whose hashes are compared with all others in one product
PAIRS_AT_ONCE = 8192  # pairs that are correlated at once: 64 MB

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Near:
    """Pairs of images that show nearly the same, as arrays (p,): of video frames there may be many millions."""

    first: NDArray[np.int64]  # places, each less than that in `second`
    second: NDArray[np.int64]
    view: NDArray[np.uint8]  # place in `VIEWS` under which the second looks like the first
    correlation: Values

    def where(self, chosen: NDArray[np.bool_]) -> Near:
        """The chosen pairs (p,), in their order."""
        return Near(self.first[chosen], self.second[chosen], self.view[chosen], self.correlation[chosen])


def find_near(thumbnails: NDArray[np.uint8]) -> Near:
    """Every pair of near copies once, the most alike first, under the view that fits best.

    Args:
        thumbnails: grey levels (n, 32, 32).
    """
    grey, count = thumbnails.astype(np.float32), len(thumbnails)
    whole, detail = normalise(grey), details(grey)
    signs = hash_signs(grey)
    codes, views, likenesses = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)], [np.zeros(0, np.float32)]
    for number, view in enumerate(VIEWS):
        turned = np.ascontiguousarray(flip(grey, view, axes=(1, 2)))
        other, other_detail = normalise(turned), details(turned)
        for first, second in candidates(signs, hash_signs(turned)):
            likeness = np.einsum("ij,ij->i", whole[first], other[second])
            fits = likeness >= WHOLE
            fits[fits] = np.einsum("ij,ij->i", detail[first[fits]], other_detail[second[fits]]) >= DETAIL
            codes.append(first[fits] * count + second[fits])
            likenesses.append(likeness[fits])
            views.append(np.full(len(codes[-1]), number, np.uint8))
    code, likeness, seen = np.concatenate(codes), np.concatenate(likenesses), np.concatenate(views)
    order = np.lexsort((code, -likeness))
    _, once = np.unique(code[order], return_index=True)  # of a pair under several views, the first in this order
    kept = order[np.sort(once)]
    return Near(code[kept] // max(count, 1), code[kept] % max(count, 1), seen[kept], likeness[kept])


def candidates(signs: Values, others: Values) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (i, j), i < j, whose hashes differ in at most `NEAR_BITS`, some at once: all i, all j.

    The product of two hashes of signs is the number of bits that agree less the number of those that differ.
    """
    bits = signs.shape[1]
    for start in range(0, len(signs), AT_ONCE):
        agreement = signs[start : start + AT_ONCE] @ others[start:].T
        rows, columns = np.nonzero(agreement >= bits - 2 * NEAR_BITS)
        rows, columns = start + rows[columns > rows], start + columns[columns > rows]
        for some in range(0, len(rows), PAIRS_AT_ONCE):
            yield rows[some : some + PAIRS_AT_ONCE], columns[some : some + PAIRS_AT_ONCE]


def hash_signs(grey: Values) -> Values:
    """The hash of thumbnails (n, 32, 32) as signs (n, 112): +1 where a cell is brighter than the one before it."""
    step = SIDE // CELLS
    cells = grey.reshape(len(grey), CELLS, step, CELLS, step).mean(axis=(2, 4))
    right, down = np.diff(cells, axis=2) > 0, np.diff(cells, axis=1) > 0
    bits = np.concatenate([right.reshape(len(grey), -1), down.reshape(len(grey), -1)], axis=1)
    return np.where(bits, np.float32(1), np.float32(-1))


def normalise(grey: Values) -> Values:
    """Thumbnails as vectors of mean 0 and length 1, so that a product is a correlation; 0 where all cells are alike."""
    flat = grey.reshape(len(grey), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-3)


def details(grey: Values) -> Values:
    """What is finer than a blur in the middle of thumbnails, normalised."""
    fine = grey - gaussian_filter(grey, (0, BLUR, BLUR))
    return normalise(fine[:, MARGIN:-MARGIN, MARGIN:-MARGIN])


def components(near: Near, count: int) -> NDArray[np.int64]:
    """The number of the group that each of `count` images is in; pairs connect."""
    edges = coo_array((np.ones(len(near.first), np.bool_), (near.first, near.second)), shape=(count, count))
    return connected_components(edges, directed=False)[1].astype(np.int64)
