"""`distill publish student=... onnx=FILE`: the ONNX file of a published student, on demand."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

from distill.cli.options import Command, Option
from distill.cli.predict import HOME, TORCH_STUDENT, TRUST
from distill.runs.latest import student_of

logger = logging.getLogger("bandpass")


def onnx_path(key: str, value: str) -> Path:
    """The path of the file to write.

    Raises:
        ValueError: it is a folder, or has another suffix.
    """
    path = Path(value).expanduser()
    if path.is_dir() or path.suffix != ".onnx":
        raise ValueError(f"{key}={value} must be a file, as {key}=model.onnx")
    return path


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Writes the file; dry: only says so."""
    from distill.publishing.onnx_on_demand import make_onnx

    student = student_of(given.student, home=given.home)
    if dry:
        logger.info("would write %s of %s", given.onnx, student)
        return 0
    make_onnx(student, given.onnx, trust=given.trust)
    return 0


COMMAND = Command(
    "publish",
    run,
    does="Makes the ONNX file of a student that was published without one, as those of the zoo are, and compares it "
    "with PyTorch on generated frames.",
    writes=("FILE  uint8 images of any size in, calibrated probability out; the threshold is in its metadata",),
    options=(
        TORCH_STUDENT,
        Option("onnx", "the file to write", "FILE.onnx", read=onnx_path, required=True),
        TRUST,
        HOME,
    ),
    examples=("distill publish student=zoo:NAME onnx=model.onnx",),
)
