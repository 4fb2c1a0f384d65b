"""`distill predict student=... images=... out=DIR`: the command line of `distill.predict`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from distill.config.parse import number, own_words, truth
from distill.inference.inputs import find_inputs
from distill.inference.predict import predict
from distill.runtime.issues import several

USAGE = """distill predict student=DIR|hub-id|model.onnx images=FILE|FOLDER|'GLOB'|VIDEO out=DIR [key=value ...]

  student=        a published folder, its model.onnx (run by ONNX Runtime alone), or an id on the hub
  images=         a picture, a folder of pictures and videos, a pattern in quotes ('DIR/**/*.png'), or a video
  out=            a folder for the results; a second call leaves alone what is complete in it, one with another student,
                  threshold or flips does all again, and is refused where other images have results there
  threshold=      from which probability on a pixel is foreground (what the student was published with)
  flips=true      the mean over four mirror images, in four times the time
  probabilities=true  grey pictures of the probability, too
  trust=my_nets:Net   consent to run the code of a student of this class, which is not one of Bandpass's

  BANDPASS_THREADS=N in the environment sets the network's threads: 1 where other work keeps the cores busy

  out/masks/NAME.png      0 and 255 at the picture's own size; numbers of classes with a palette where there are several
  out/overlays/NAME.jpg   the picture with fill and contour
  out/areas.csv           a line a picture and class: area in pixels and share, box, connected components
  out/videos/NAME.mp4, NAME.csv   the video with fill and contour, and a line a frame
  out/predict.json        which student, threshold and palette made this"""

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Request:
    """What is to be predicted, and how; see `USAGE`."""

    student: str
    images: str
    out: Path
    threshold: float | None = None
    flips: bool = False
    probabilities: bool = False
    trust: str | None = None


def read_request(words: Sequence[str]) -> Request:
    """The request of a command line's `key=value` words.

    Raises:
        ValueError: wrong words (`own_words`), or a value of the wrong kind.
    """
    known = [entry.name for entry in fields(Request)]
    given = own_words(words, known, usage=USAGE, needs=("student", "images", "out"))
    convert: dict[str, Callable[[str, str], Any]] = {
        "out": lambda _, value: Path(value).expanduser(),
        "threshold": number,
        "flips": truth,
        "probabilities": truth,
    }
    values: dict[str, Any] = {key: convert.get(key, _text)(key, value) for key, value in given.items()}
    return Request(**values)


def _text(_: str, value: str) -> str:
    return value


def predict_command(words: Sequence[str], *, dry: bool) -> int:
    """Runs `distill predict ...`; see `USAGE`.

    Args:
        words: `key=value`.
        dry: only says what would be done.

    Returns:
        the exit status: 1 if any file could not be read.
    """
    request = read_request(words)
    if dry:
        inputs, _ = find_inputs(request.images, out=request.out)
        videos = sum(one.video for one in inputs)
        logger.info("would predict %s and %s with %s into %s", several(len(inputs) - videos, "picture"),
                    several(videos, "video"), request.student, request.out)  # fmt: skip
        return 0
    summary = predict(
        request.student,
        request.images,
        out=request.out,
        threshold=request.threshold,
        flips=request.flips,
        probabilities=request.probabilities,
        trust=request.trust,
    )
    sys.stdout.write("\n".join(summary.lines()) + "\n")
    return 1 if summary.failures else 0
