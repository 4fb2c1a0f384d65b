"""The cosine of a decoded map to the original, and the Gaussian rate-distortion bound on its bytes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def cosine(features: Tensor, decoded: Tensor) -> Tensor:
    """The cosine over the channels of each cell, averaged over cells: (..., C, h, w) twice -> (...); see `fidelity`.

    It is meant for principal components, so that the mean of the features does not count. Cells that are zero in both
    maps count as 1, in one map as 0.
    """
    norms, decoded_norms = features.norm(dim=-3), decoded.norm(dim=-3)
    return fidelity((features * decoded).sum(-3), norms, decoded_norms, channels=features.shape[-3])


def fidelity(products: Tensor, norms: Tensor, decoded_norms: Tensor, *, channels: int) -> Tensor:
    """The fidelity of a code, (...): the cosine of each cell, averaged over cells (`cell_cosine`).

    A map of one channel has no direction in a cell, only a sign; its fidelity is the cosine of the whole map.

    Args:
        products: (..., h, w), the products of original and decoded cells, summed over channels.
        norms: (..., h, w), the norms of the original cells over channels.
        decoded_norms: (..., h, w), those of the decoded cells.
        channels: the number of channels of the original map.
    """
    if channels > 1:
        return cell_cosine(products, norms, decoded_norms)
    scale = norms.square().sum((-2, -1)).sqrt() * decoded_norms.square().sum((-2, -1)).sqrt()
    flat = ((norms == 0) & (decoded_norms == 0)).flatten(-2).all(-1)
    whole = products.sum((-2, -1)) / scale.clamp_min(torch.finfo(scale.dtype).tiny)
    return torch.where(flat, torch.ones_like(whole), whole)


def cell_cosine(products: Tensor, norms: Tensor, decoded_norms: Tensor) -> Tensor:
    """The mean over cells (..., h, w) of products / (norms * decoded_norms), with the rule of `cosine` for zeros."""
    scale = norms * decoded_norms
    cells = torch.where(scale > 0, products / scale.clamp_min(torch.finfo(scale.dtype).tiny), 0.0)
    return torch.where((norms == 0) & (decoded_norms == 0), 1.0, cells).mean((-2, -1))


def reference_bytes(variances: np.ndarray, distortion: float) -> float:
    """The Gaussian rate-distortion function by reverse water-filling, in bytes.

    A reference, not a floor: real coefficients are less random than Gaussians of their variances.

    Args:
        variances: expected squares of all coefficients, of any shape.
        distortion: squared error summed over all coefficients, in the same units; 0 < distortion < variances.sum().

    Source: Cover and Thomas, Elements of Information Theory, 10.3.3: rate = sum max(0, log2(variance / level) / 2),
    where the level satisfies sum min(variance, level) = distortion.
    """
    ordered = np.sort(variances.astype(np.float64).reshape(-1))
    if not 0 < distortion < ordered.sum():
        raise ValueError(
            f"expected a distortion between 0 and the total variance {ordered.sum():g}, got {distortion:g}"
        )
    below = np.concatenate([[0.0], np.cumsum(ordered)[:-1]])
    levels = (distortion - below) / np.arange(len(ordered), 0, -1)  # the level if the first i lie under water
    first = int(np.argmax(ordered >= levels))
    above = ordered[first:]
    return float(np.log2(above / levels[first]).sum() / 2 / 8)
