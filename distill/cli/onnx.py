"""`distill publish student=... onnx=FILE`: writes the ONNX file of a published student."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

from distill.cli.options import Command, Option, path, truth
from distill.cli.predict import HOME, TORCH_STUDENT, TRUST
from distill.runs.latest import student_of

logger = logging.getLogger("bandpass")


def onnx_path(key: str, value: str) -> Path:
    """The path of the file to write.

    Raises:
        ValueError: it is a folder, or has another suffix.
    """
    file = path(key, value)
    if file.is_dir() or file.suffix != ".onnx":
        raise ValueError(f"{key}={value} must be a file, as {key}=model.onnx")
    return file


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Writes the file and, if asked for, the quantised one; dry: only says so."""
    from distill.publishing.onnx_on_demand import make_onnx, open_calibration
    from students.config import locate

    student = student_of(given.student, home=given.home)
    if given.int8 and not given.resize:
        raise ValueError("an int8 file has the resizes; leave out int8= or resize=false")
    if dry:
        locate(student, "config.json")  # not an ONNX file
        also = f", and one in int8 by the images of {given.int8}" if given.int8 else ""
        logger.info("would write %s of %s%s", given.onnx, student, also)
        return 0
    calibration = open_calibration(student, given.int8, home=given.home) if given.int8 else None
    make_onnx(student, given.onnx, trust=given.trust, int8=calibration, resize=given.resize)
    return 0


COMMAND = Command(
    "publish",
    run,
    does="Makes the ONNX file of a student that was published without one, such as those of the zoo, and checks it "
    "against PyTorch on generated frames.",
    writes=(
        "FILE.onnx       input: uint8 images of any size; output: calibrated probability; thresholds in its metadata",
        "FILE.int8.onnx  the same, quantised to int8, if asked for and worth it",
    ),
    options=(
        TORCH_STUDENT,
        Option("onnx", "the file to write", "FILE.onnx", read=onnx_path, required=True),
        Option(
            "int8",
            "also write FILE.int8.onnx, calibrated on some images of this folder (images/ and masks/), if it is "
            "faster and loses at most 0.5 percentage points of Dice on the others",
            "DIR",
            read=path,
        ),
        Option(
            "resize",
            "false: the network without resizing, for OpenVINO, OpenCV and large frames; input: float32 1 x 3 x S x S, "
            "RGB from 0 to 255 (S: image_size in the metadata); output: the probability at this size",
            "true",
            True,
            truth,
        ),
        TRUST,
        HOME,
    ),
    examples=(
        "distill publish student=zoo:NAME onnx=model.onnx",
        "distill publish student=zoo:NAME onnx=model.onnx int8=DIR   # also model.int8.onnx, calibrated on DIR",
        "distill publish student=zoo:NAME onnx=network.onnx resize=false   # for OpenVINO, OpenCV and large frames",
    ),
)
