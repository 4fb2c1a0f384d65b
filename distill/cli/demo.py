"""`distill demo student=...`: a page on which to drop an image and see the mask."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from distill.config.parse import own_words
from distill.demo.server import Server, is_loopback
from distill.demo.session import Session
from distill.inference.segmenter import open_segmenter
from distill.runtime.threads import use_all_cores

USAGE = """distill demo student=DIR|hub-id|model.onnx [port=7860] [host=127.0.0.1]

  student=   a published folder, its model.onnx, or an id on the hub
  port=      where the page is: http://127.0.0.1:PORT; 0 for any that is free
  host=      127.0.0.1 keeps the page to this machine; 0.0.0.0 shows it to the network

  Nothing is sent anywhere, nothing is kept: images stay in this process's memory, the last 8 of them."""
PORT, HOST = 7860, "127.0.0.1"

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Request:
    """Which student, and where its page is."""

    student: str
    port: int = PORT
    host: str = HOST


def read_request(words: Sequence[str]) -> Request:
    """The request of a command line's `key=value` words.

    Raises:
        ValueError: wrong words (`own_words`), or a port that is none.
    """
    given = own_words(words, [entry.name for entry in fields(Request)], usage=USAGE, needs=("student",))
    port = given.get("port", str(PORT))
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"port is {port!r}, but must be a whole number from 0 to 65535")
    return Request(given["student"], int(port), given.get("host", HOST))


def open_server(request: Request) -> Server:
    """The server of a student's page, bound and not yet serving.

    Raises:
        FileNotFoundError: the student is not there.
        ValueError: it is no student of ours, or the address cannot be had.
    """
    use_all_cores()
    segmenter = open_segmenter(request.student)
    path = Path(request.student).expanduser()
    folder = (path.parent if path.is_file() else path) / "examples"
    session = Session(segmenter, examples=folder if folder.is_dir() else None)
    try:
        return Server(session, host=request.host, port=request.port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "another program has that port; choose another by port=, or any by port=0" if taken else error.strerror
        raise ValueError(f"cannot serve at {request.host}:{request.port}: {hint}") from error


def demo_command(words: Sequence[str], *, dry: bool) -> int:
    """Runs `distill demo ...` until it is interrupted; see `USAGE`.

    Args:
        words: `key=value`.
        dry: only opens the student and the address, and says so.

    Returns:
        the exit status, 0.
    """
    request = read_request(words)
    with open_server(request) as server:
        logger.info("%s by %s", server.session.segmenter.name, server.session.segmenter.place)
        if not is_loopback(request.host):
            logger.warning("host=%s: whoever reaches this machine can use the page, and images travel unencrypted",
                           request.host)  # fmt: skip
        if dry:
            logger.info("would serve at %s", server.url)
            return 0
        sys.stdout.write(f"open {server.url} in a browser; Ctrl-C ends it\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("ended")
    return 0
