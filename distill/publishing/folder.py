"""Replacement of a whole folder: readers see the old one or the new one, and remains of a kill are swept up later."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.runtime.issues import first_line

FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))  # in the words of any library


@contextmanager
def replaced(final: Path) -> Iterator[Path]:
    """An empty folder to write into, which replaces `final` if nothing goes wrong.

    Args:
        final: the folder; it need not exist.

    Raises:
        FileExistsError: another process is writing `final`, or was killed while doing so.
        OSError: the disk is full; `final` is unchanged, and nothing is left of the new folder.
    """
    final = final.resolve()  # a link is followed
    new, old = _beside(final, "new"), _beside(final, "old")
    try:
        new.mkdir(parents=True)  # which only one process can
    except FileExistsError:
        require_free(final)
        raise
    try:
        yield new
        if final.exists():
            final.rename(old)
        new.rename(final)
    except Exception as error:  # each library has a class of its own for a full disk
        if any(reason in str(error) for reason in FULL):
            raise OSError(
                errno.ENOSPC,
                f"could not write {final} ({first_line(error)}); what was published before is intact; make "
                "room and publish again",
            ) from error
        raise
    finally:
        sweep(final)


def require_free(final: Path) -> None:
    """Raises FileExistsError if another process is writing `final`, or was killed while doing so."""
    final = final.resolve()
    if (new := _beside(final, "new")).exists():
        raise FileExistsError(
            f"another process is writing {final}, or was killed while doing so: {new} exists; wait for it, or remove "
            "that folder, and run the command again"
        )


def sweep(final: Path) -> None:
    """Removes what a killed process left beside `final`; puts the old folder back if it had not been replaced yet."""
    final = final.resolve()
    old = _beside(final, "old")
    if old.is_dir() and not final.exists():
        old.rename(final)
    for left in leftovers(final):
        shutil.rmtree(left, ignore_errors=True)


def leftovers(final: Path) -> list[Path]:
    """The folders beside `final` of a process that is writing it, or was killed while doing so."""
    final = final.resolve()
    return [folder for part in ("new", "old") if (folder := _beside(final, part)).exists()]


def _beside(final: Path, part: str) -> Path:
    return final.with_name(f".{final.name}.{part}")
