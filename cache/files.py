"""Files of a cache folder: written whole or not at all, read only if they are regular files of that folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("bandpass")

_UNFINISHED = ".writing-"
_OURS = re.compile(rf"{re.escape(_UNFINISHED)}(?P<host>[0-9a-f]{{8}})-")
_FOREIGN_SECONDS = 86_400  # unfinished files of another host are kept this long: its locks may not be visible here
_LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # the errors of a file system without locks


class ForeignFileError(ValueError):
    """A file that does not belong in its folder: a link that leads out, a FIFO, a device, or a file far too large."""


def open_inside(folder: Path, name: str) -> int:
    """A descriptor for reading `folder/name`; the caller closes it.

    Raises:
        ForeignFileError: it is a link that leads out of the folder or nowhere, or not a regular file.
        OSError: it does not exist or cannot be read.
    """
    path = folder / name
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        try:
            inside = path.resolve(strict=True).is_relative_to(folder.resolve())
            mode = path.stat().st_mode
        except (OSError, RuntimeError) as error:
            raise ForeignFileError("it is a link that leads nowhere; remove it") from error
        if not inside:
            raise ForeignFileError("it is a link that leads out of the folder; put the file itself there (cp -L)")
    if not stat.S_ISREG(mode):
        raise ForeignFileError("it is not a regular file; move it away")
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def read_inside(folder: Path, name: str, *, limit: int) -> bytes:
    """The bytes of `folder/name`, at most `limit`; errors as `open_inside`."""
    with os.fdopen(open_inside(folder, name), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ForeignFileError(f"expected at most {limit} bytes, got {size}")
        return file.read()


def write_whole(folder: Path, name: str, data: bytes | Iterable[bytes], *, sweeping: bool = True) -> Path:
    """Writes `folder/name`, replacing any file there: temporary name, fsync, rename, fsync of the folder.

    Args:
        folder: an existing folder.
        name: the name of the file.
        data: its bytes, or parts of them.
        sweeping: whether to remove unfinished files first; this lists the folder, which is slow with many shards.

    Raises:
        OSError: the disk is full, the folder cannot be written, or `name` is a folder; nothing is left behind.
    """
    if sweeping:
        sweep(folder)
    final = folder / name
    descriptor, unfinished = _temporary(folder)
    size = 0
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in [data] if isinstance(data, bytes) else data:
                size += len(part)
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(final)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        cure = "remove the folder of that name" if final.is_dir() else "make room"
        raise OSError(
            error.errno,
            f"could not write {size} bytes to {final} ({error.strerror}); what was written before is intact: "
            f"{cure} and run the same command again",
        ) from error
    _fsync_folder(folder)
    return final


def sweep(folder: Path) -> None:
    """Removes the unfinished files of writers that died.

    A writer holds a lock on its unfinished file for as long as it lives, so a file that can be locked has no writer. On
    some file systems other hosts do not see the lock; unfinished files of other hosts are therefore kept for a day.
    """
    for path in folder.glob(_UNFINISHED + "*"):
        if _is_foreign(path):
            continue
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # gone, or not a file that a writer of ours made
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:
            continue
        finally:
            os.close(descriptor)


def _is_foreign(path: Path) -> bool:
    """Whether an unfinished file was begun on another host, within a day."""
    writer = _OURS.match(path.name)
    try:
        return bool(writer and writer["host"] != _host() and time.time() - path.lstat().st_mtime < _FOREIGN_SECONDS)
    except OSError:  # gone
        return True


def _host() -> str:
    """This host's part of the names of unfinished files."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _temporary(folder: Path) -> tuple[int, Path]:
    while True:
        path = folder / f"{_UNFINISHED}{_host()}-{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:  # without locks, the file of a killed writer is never removed, which does no harm
            if error.errno not in _NO_LOCKS:
                raise
        if path.exists():  # another writer's sweep may have come between open and lock
            return descriptor, path
        os.close(descriptor)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock(path: str | Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a cache folder for one extraction and creates it if needed. The kernel releases it when the holder dies.

    Unfinished files are removed. If the file system has no locks, a warning is logged and nothing is held.

    Args:
        path: the cache folder.
        wait: whether to wait for another extraction to end, with a line in the log, or to raise.

    Raises:
        BlockingIOError: another extraction, named by process and host, holds the folder, and `wait` is false.
        OSError: the lock file is a link or not a regular file; nothing is written to it.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, f"{folder / _LOCK} is not a regular file; remove it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            if not wait:
                sentence = f"{folder} is in use by {holder}; wait for it to end, or choose another folder"
                raise BlockingIOError(error.errno, sentence) from None
            logger.info("waiting: %s is in use by %s", folder, holder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.warning("%s is on a file system without locks: make sure no other extraction fills it now", folder)
        os.ftruncate(descriptor, 0)
        sweep(folder)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
