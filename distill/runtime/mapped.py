"""Arrays in temporary files: rows for very many images, without taking memory that other work needs."""

from __future__ import annotations

import os
import tempfile

import numpy as np
from numpy.typing import NDArray

reserve = getattr(os, "posix_fallocate", lambda *_: None)  # which macOS lacks


def mapped(rows: int, width: int) -> NDArray[np.float64]:
    """Zeros, float64 (rows, width), in an unnamed temporary file, which is removed with the array.

    If memory is short, its pages are written to disk, even without swap.

    Raises:
        OSError: there is no room for the file.
    """
    size = rows * width * np.dtype(np.float64).itemsize
    if not size:
        return np.zeros((rows, width))
    with tempfile.TemporaryFile() as file:
        try:
            reserve(file.fileno(), 0, size)  # a full disk would otherwise end the process by SIGBUS
        except OSError as error:
            raise OSError(
                error.errno,
                f"expected room for the scores of {rows} images, {size / 1e6:.0f} MB, in {tempfile.gettempdir()}, got: "
                f"{error.strerror}; make room there, or name another folder by TMPDIR",
            ) from error
        return np.memmap(file, np.float64, "r+", shape=(rows, width)).view(np.ndarray)
