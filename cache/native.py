"""The inner loops of decoding as machine code (decode.c), if there was a compiler when the package was installed.

Otherwise Python does the same, with the same result.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np

logger = logging.getLogger("bandpass")

VERSION = 1  # of the functions' arguments, as in decode.c

MODEL = np.dtype([("bounds", np.uint64), ("buckets", np.uint64)])
RUN = np.dtype(
    [("start", np.int64), ("stop", np.int64), ("shift", np.int32), ("limit", np.int32), ("size", np.int32),
     ("reserved", np.int32), ("groups", MODEL), ("tail", MODEL), ("values", np.uint64)]
)  # fmt: skip
"""A run of coefficients as decode.c reads it; 64-bit addresses stand for its pointers."""

BITS, BUCKET_BITS = 24, 12


def load(folder: Path) -> ctypes.CDLL | None:
    """The compiled library in a folder; None if there is none that this machine and this version can call."""
    if sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    for file in filter(Path.is_file, (folder / f"_decode{suffix}" for suffix in EXTENSION_SUFFIXES)):
        with contextlib.suppress(OSError, AttributeError):  # built for another machine, or another library
            library = ctypes.CDLL(str(file))
            if library.bandpass_version() == VERSION:
                return library
    return None


library = load(Path(__file__).parent)


@cache
def say_how() -> None:
    """Logs, once per process, that decoding is slow if nothing was compiled."""
    if library is None:
        logger.info(
            "features are decoded in Python, at a third to two thirds of the speed: nothing was compiled when this "
            "package was installed; install a C compiler (gcc, clang), then reinstall the package"
        )


class Model:
    """The bounds of symbols with given `probabilities` (n,) float64 in 24-bit arithmetic, and buckets to search in."""

    def __init__(self, probabilities: np.ndarray) -> None:
        count = len(probabilities)
        shares = np.concatenate([[0.0], np.cumsum(probabilities)]) / probabilities.sum()
        self.bounds = (shares * ((1 << BITS) - count)).astype(np.uint32) + np.arange(count + 1, dtype=np.uint32)
        self.bounds[-1] = 1 << BITS  # even after rounding, so that a search ends within the bounds
        first = np.arange(1 << BUCKET_BITS, dtype=np.uint32) << (BITS - BUCKET_BITS)
        self.buckets = (np.searchsorted(self.bounds, first, side="right") - 1).astype(np.uint16)

    @property
    def addresses(self) -> tuple[int, int]:
        """The addresses of bounds and buckets for decode.c, valid as long as this model lives."""
        return self.bounds.ctypes.data, self.buckets.ctypes.data


def decode(code: bytes, runs: np.ndarray, room: int) -> np.ndarray | None:
    """The integers (room,), int8 or int32, of a code of the coder "laplace"; None if the bytes are not such a code.

    Args:
        code: whole 32-bit words.
        runs: (n,) records of the type `RUN`.
        room: the number of coefficients, including those that fill the last group.
    """
    assert library is not None
    words = np.frombuffer(code, np.uint32).copy()  # aligned
    narrow, wide, places = np.empty(room, np.int8), np.empty(room, np.int32), np.empty(room, np.int32)
    beyond = np.empty(room, np.int64)
    kind = library.bandpass_decode(
        _address(words), ctypes.c_int64(len(words)), _address(runs), ctypes.c_int32(len(runs)),
        _address(narrow), _address(wide), _address(places), _address(beyond),
    )  # fmt: skip
    return None if kind < 0 else wide if kind else narrow


def place(integers: np.ndarray, *, shifts: np.ndarray, places: np.ndarray, step: float, out: np.ndarray) -> None:
    """Writes (|q| + shift) * step, with the sign of q, at the place in `out` of each of the `integers` q (n,).

    Args:
        integers: the values, int8 or int32, contiguous.
        shifts: (n,) float32.
        places: (n,) int32, within `out`.
        step: the quantiser's step.
        out: float32 zeros, contiguous.
    """
    assert library is not None
    library.bandpass_place(
        _address(integers), ctypes.c_int32(integers.dtype == np.int32), ctypes.c_int64(len(integers)),
        _address(shifts), _address(places), ctypes.c_float(step), _address(out),
    )  # fmt: skip


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
