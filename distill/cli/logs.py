"""Log output of a command on standard error; a run also logs to `log.txt` in its folder."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "log.txt"
FORMAT = "%(message)s"

logger = logging.getLogger("bandpass")


def start_logging() -> None:
    """Sets up plain lines on standard error; other libraries log warnings and errors only."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def quieten(lead: bool) -> None:
    """Lets only rank 0 log, and silences advice from libraries."""
    logger.setLevel(logging.INFO if lead else logging.ERROR)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|timm|onnxscript|huggingface_hub)\b.*")


@contextmanager
def kept_in(folder: Path, *, lead: bool) -> Iterator[None]:
    """Appends log lines to log.txt in a folder, with the time, and the error if one ends the run.

    Args:
        folder: of a run; made if need be.
        lead: whether this is the first process; others write nothing.

    Raises:
        ValueError: the folder cannot be made.
    """
    if not lead:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the folder of the run, {folder}, cannot be made ({error.strerror}); give home=DIR, a folder that is "
            "writable"
        ) from error
    with (folder / NAME).open("a", encoding="utf-8", errors="backslashreplace") as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter(f"%(asctime)s {FORMAT}", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
        try:
            yield
        except BaseException as error:
            told = f"stopped by {type(error).__name__}: {error}"
            where = sys.exc_info() if isinstance(error, Exception) else None  # not of a signal
            handler.handle(logger.makeRecord(logger.name, logging.ERROR, __file__, 0, told, (), where))
            raise
        finally:
            logger.removeHandler(handler)
