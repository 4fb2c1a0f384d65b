"""Log output of a command: on standard error, and of a run also in `log.txt` of its folder."""

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
    """Plain lines on standard error for people; other libraries speak only when something is wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def quieten(lead: bool) -> None:
    """Only rank 0 speaks, and libraries keep their advice to themselves."""
    logger.setLevel(logging.INFO if lead else logging.ERROR)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|timm|onnxscript|huggingface_hub)\b.*")


@contextmanager
def kept_in(folder: Path, *, lead: bool) -> Iterator[None]:
    """Appends what is logged meanwhile to log.txt of a folder, with the time, and how it ended if by an error.

    Args:
        folder: of a run; made if need be.
        lead: whether this is the first process; the others write nothing.

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
            f"the folder of the run, {folder}, cannot be made ({error.strerror}); give home=DIR, a folder that can be "
            "written to"
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
