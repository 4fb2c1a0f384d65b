"""`distill demo student=...`: a page that shows the masks of an image, a video or a camera."""

from __future__ import annotations

import errno
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from distill.cli.options import Command, Option, whole
from distill.cli.predict import HOME, STUDENT, TRUST
from distill.runs.latest import student_of

if TYPE_CHECKING:
    from distill.demo.server import Server

logger = logging.getLogger("bandpass")


def open_server(given: SimpleNamespace) -> Server:
    """The server of a student's page, bound but not yet serving.

    Raises:
        FileNotFoundError: there is no such student.
        ValueError: it is not a student of Bandpass, or the address is not available.
    """
    from distill.demo.server import Server
    from distill.demo.session import Session
    from distill.inference.segmenter import open_segmenter
    from distill.runtime.threads import use_all_cores
    from students.catalogue import place_of

    use_all_cores()
    student = student_of(given.student or default_student(), home=given.home)
    segmenter = open_segmenter(student, trust=given.trust)
    path = Path(place_of(student)).expanduser()
    folder = (path.parent if path.is_file() else path) / "examples"
    session = Session(segmenter, examples=folder if folder.is_dir() else None)
    try:
        return Server(session, host=given.host, port=given.port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "another program uses that port; choose another by port=, or any by port=0" if taken else error.strerror
        raise ValueError(f"cannot serve at {given.host}:{given.port}: {hint}") from error


def default_student() -> str:
    """The student of a demo if none is given: the first of the zoo.

    Raises:
        ValueError: there is none.
    """
    from students.catalogue import PREFIX, names  # which imports torch

    if known := names():
        return PREFIX + known[0]
    raise ValueError("distill demo needs student=, as in distill demo student=DIR, as none comes with this Bandpass")


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Serves until interrupted; dry: only opens the student and the address, and says so."""
    from distill.demo.server import is_loopback
    from distill.runtime.signals import set_next

    with open_server(given) as server:
        logger.info("%s by %s", server.session.segmenter.name, server.session.segmenter.place)
        if not is_loopback(given.host):
            logger.warning("host=%s: anyone who reaches this machine can use the page, and images travel unencrypted",
                           given.host)  # fmt: skip
        if dry:
            logger.info("would serve at %s", server.url)
            return 0
        sys.stdout.write(f"open {server.url} in a browser; Ctrl-C ends it\n")
        sys.stdout.flush()
        set_next("the same command serves the page again")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("ended")
    return 0


COMMAND = Command(
    "demo",
    run,
    does="Serves a local page that shows the mask of an image or a video that is dropped on it, or of each frame of a "
    "camera (such as an endoscope on a capture card). Nothing is sent anywhere or stored: the last 8 images stay in "
    "this process's memory.",
    options=(
        replace(STUDENT, meaning=f"{STUDENT.meaning}; empty: the first that distill zoo lists", required=False),
        Option("port", "port of the page, http://127.0.0.1:PORT; 0: any free port", "7860", 7860, whole(0, 65535)),
        Option(
            "host",
            "127.0.0.1: only this machine can open the page; 0.0.0.0: the network can",
            "127.0.0.1",
            "127.0.0.1",
        ),
        TRUST,
        HOME,
    ),
    examples=(
        "distill demo                                             # the first student of the zoo",
        "distill demo student=artifacts/runs/RUN/student          # a page at http://127.0.0.1:7860",
        "distill demo student=sam_to_unet port=0                  # the latest run of a recipe, at a free port",
    ),
)
