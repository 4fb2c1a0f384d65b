"""`distill bench what=cache`: what a cache weighs, how fast it is read, and what filling it costs."""

from __future__ import annotations

from itertools import chain

from distill.bench.command import Request
from distill.bench.decoding import decode_rows
from distill.bench.extraction import extract_rows
from distill.bench.sizes import size_rows
from distill.runtime.timing import Row, told

KEYS = {
    "images": "folder of pictures; generated frames otherwise",
    "weights": "of EfficientNet-B0, a file in timm's names; random ones otherwise, of which no bytes are reported",
    "sam": "images that a random SAM ViT-B looks at in each round (2); 0 leaves it out",
}


def measure(request: Request) -> list[Row]:
    """Sizes, decoding, extraction."""
    return told(chain(size_rows(request), decode_rows(request), extract_rows(request)))
