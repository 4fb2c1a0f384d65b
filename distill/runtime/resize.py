"""The one resize of the project: bilinear, with a triangle filter that widens when shrinking (antialiased).

Training, validation and the published networks all see images through this filter. It is separable: cell i of
an axis is the weighted mean of the input pixels j with weights max(0, 1 - |j + 1/2 - c_i| / max(s, 1)), where
s is the number of input pixels that a cell covers and c_i = start + (i + 1/2) s its centre; pixels that would
lie outside the image are left out and the weights normalised. For a whole image this equals
`torch.nn.functional.interpolate(mode="bilinear", antialias=True)`; this version also takes a box and is faster.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from cache.series import WHOLE, Box

ROUNDING = 1e-9  # a box drawn as corner plus side may pass 1 by a rounding error


def resize(images: Tensor, size: tuple[int, int], *, box: Box = WHOLE) -> Tensor:
    """Samples a box of the images on a grid of `size`.

    Fastest if channels lie innermost in memory: `torch.from_numpy(image).permute(2, 0, 1)[None]` of an
    (H, W, 3) array is read in place, and only the rows and columns that the box needs become float.

    Args:
        images: (N, C, H, W), any real type, any memory layout.
        size: height and width of the result, in pixels.
        box: (y0, x0, y1, x1) in fractions of the image. Pixels outside the box but inside the image take part
            in the filter, so that a crop of the resized image is the resized crop.

    Returns:
        float32 (N, C, *size), in the units of `images`.

    Raises:
        ValueError: the box is empty or leaves the image.
    """
    top, left, bottom, right = box
    if not (0 <= top < bottom <= 1 + ROUNDING and 0 <= left < right <= 1 + ROUNDING):
        raise ValueError(f"expected a box (y0, x0, y1, x1) with 0 <= y0 < y1 <= 1, and x alike, got {box}")
    count, channels, height, width = images.shape
    rows, row_positions, row_weights = taps(height, size[0], top, bottom)
    columns, column_positions, column_weights = taps(width, size[1], left, right)
    x = images[:, :, rows, columns].permute(2, 0, 3, 1).to(torch.float32)  # (rows, N, columns, C)
    wide = x.shape[2]
    x = _gather(x.reshape(x.shape[0], -1), row_positions, row_weights).view(size[0], count, wide, channels)
    x = x.permute(2, 1, 0, 3).reshape(wide, -1)
    x = _gather(x, column_positions, column_weights).view(size[1], count, size[0], channels)
    return x.permute(1, 3, 2, 0).contiguous()


@lru_cache(maxsize=256)  # whole images of a few sizes recur
def taps(inputs: int, outputs: int, low: float, high: float) -> tuple[slice, Tensor, Tensor]:
    """The triangle filter along one axis, as the few pixels that each cell reads.

    Args:
        inputs: pixels of the image along the axis.
        outputs: cells of the result.
        low: where the box starts, as a fraction of the axis.
        high: where it ends.

    Returns:
        the slice of the axis that is read at all, and for each cell positions in that slice (outputs, t),
        int64, with their weights (outputs, t), float32, each row summing to 1.
    """
    stride = inputs * (high - low) / outputs
    reach = max(stride, 1.0)
    start = max(math.floor(inputs * low - reach), 0)
    stop = min(math.ceil(inputs * high + reach), inputs)
    centres = (inputs * low - start) + (torch.arange(outputs) + 0.5) * stride
    first = (centres - reach).floor().long()
    positions = first[:, None] + torch.arange(2 * math.ceil(reach) + 1)
    weights = (1 - (positions + 0.5 - centres[:, None]).abs() / reach).clamp(min=0)
    weights = weights * ((positions >= 0) & (positions < stop - start))
    return (slice(start, stop), positions.clamp(0, stop - start - 1), weights / weights.sum(dim=1, keepdim=True))


def _gather(table: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows: (inputs, n), (outputs, t), (outputs, t) -> (outputs, n).

    The filter's matrix is a narrow band; summing its few rows is up to ten times faster than a dense product.
    """
    return functional.embedding_bag(
        positions.to(table.device), table, per_sample_weights=weights.to(table.device), mode="sum"
    )
