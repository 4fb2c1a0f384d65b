"""Entropy coders, integers to bytes and back. A codec names its coder: "laplace", or "zstd" in the oldest caches."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pkgutil import resolve_name
from typing import final

import numpy as np
import zstandard

CODERS = {"laplace": "cache.laplace:Laplace", "zstd": "cache.entropy:Zstd"}

ESCAPE = -128
"""The int8 that stands for a value outside [-127, 127]; the values themselves follow as little-endian int32."""

LEVEL = 15
"""Measured on EfficientNet features: 11 % smaller than level 1; 19 costs twice the time for less than 0.5 %."""


class Coder(ABC):
    """A lossless code of the quantised coefficients of one band."""

    @abstractmethod
    def __init__(self, deviations: np.ndarray) -> None:
        """A coder of n coefficients with the expected standard `deviations` (n,), in steps and in falling order."""

    @abstractmethod
    def encode(self, values: np.ndarray) -> bytes:
        """Bytes of the int32 `values` (n,)."""

    @abstractmethod
    def decode(self, code: bytes) -> np.ndarray:
        """The integers (n,), int8 or int32, of `encode`; ValueError for damaged bytes."""


@final
class Zstd(Coder):
    """int8 with an escape, compressed by zstandard: large values first and long runs of zeros behind them."""

    def __init__(self, deviations: np.ndarray) -> None:
        """A coder of n coefficients of the expected `deviations` (n,), see `Coder`."""
        self.count = len(deviations)

    def encode(self, values: np.ndarray) -> bytes:
        """Bytes of the int32 `values` (n,), see `Coder.encode`."""
        far = np.abs(values) > 127
        small = np.where(far, ESCAPE, values).astype(np.int8)
        return _compressor().compress(small.tobytes() + values[far].astype("<i4").tobytes())

    def decode(self, code: bytes) -> np.ndarray:
        """The integers (n,), int8 or int32, see `Coder.decode`."""
        largest = 5 * self.count  # every value escaped
        try:
            if zstandard.frame_content_size(code) > largest:  # it would be allocated before it is decompressed
                raise zstandard.ZstdError(f"its frame claims more than the {largest} bytes of {self.count} values")
            plain = _decompressor().decompress(code, max_output_size=largest)
        except zstandard.ZstdError as error:
            raise ValueError(f"a code of {len(code)} bytes is damaged ({error}); verify the cache") from error
        small = np.frombuffer(plain, np.int8, min(len(plain), self.count))
        if len(plain) == self.count:
            return small
        far = np.flatnonzero(small == ESCAPE)
        if len(plain) != self.count + 4 * len(far):
            raise ValueError(f"a code of {len(plain)} bytes does not hold {self.count} values; verify the cache")
        values = small.astype(np.int32)
        values[far] = np.frombuffer(plain, "<i4", offset=self.count)
        return values


_local = threading.local()  # zstandard's contexts are costly to make and must not be shared between threads


def _compressor() -> zstandard.ZstdCompressor:
    if "compressor" not in vars(_local):
        _local.compressor = zstandard.ZstdCompressor(level=LEVEL)
    return _local.compressor


def _decompressor() -> zstandard.ZstdDecompressor:
    if "decompressor" not in vars(_local):
        _local.decompressor = zstandard.ZstdDecompressor()
    return _local.decompressor


def coder(name: str, deviations: np.ndarray) -> Coder:
    """The coder of that name in `CODERS` for coefficients of these deviations (n,); ValueError names the known ones."""
    if name not in CODERS:
        raise ValueError(f"unknown entropy coder {name!r}; this version knows {', '.join(sorted(CODERS))}")
    return resolve_name(CODERS[name])(deviations)
