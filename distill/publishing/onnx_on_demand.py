"""The ONNX file of a student that was published without one, made on demand and checked, as is its int8 file."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import students
from distill.config.schema import DataRecipe
from distill.data.sample import Splits
from distill.data.sources.open_data import open_data
from distill.data.synthetic.generator import render
from distill.inference.model import InferenceModel, load_model
from distill.inference.onnx_file import Runner, export_onnx, onnx_metadata, open_onnx
from distill.publishing.derived import DERIVED
from distill.publishing.onnx_check import Comparison, by_torch
from distill.publishing.quantise import add_int8
from distill.runtime.issues import several

FRAMES = ((288, 384), (131, 67), (480, 640))  # sizes of generated frames on which the file is compared with torch

logger = logging.getLogger("bandpass")


def open_calibration(source: str | Path, root: Path, *, home: Path) -> Splits:
    """The images of a folder, split as by a recipe: the training part calibrates, the rest is for scoring.

    Raises:
        FileNotFoundError, ValueError: as `open_data`; masks have as many classes as the student.
    """
    data = DataRecipe(name="folder", root=str(root), fractions=[0.5, 0.25, 0.25])
    splits = open_data(data, home=home, classes=students.read_config(source)["classes"])
    return replace(splits, val=splits.held_out)


def make_onnx(
    source: str | Path, path: Path, *, trust: str | None = None, int8: Splits | None = None, resize: bool = True
) -> dict[str, Any]:
    """Writes the ONNX file of a published student, once it matches PyTorch within 1e-3 on generated frames.

    Args:
        source: a folder, a hub id or `zoo:NAME`.
        path: of the file, which is replaced.
        trust: the class of a user's own student, as for `students.load`.
        int8: images for an int8 file beside it, which is kept if it is worth it (`add_int8`); needs `resize`.
        resize: whether the file has the resizes, as of `export_onnx`.

    Returns:
        the largest difference and where it occurred, JSON-able; with `int8`, also the verdict.

    Raises:
        FileNotFoundError, ValueError: as of `load_model`; or the file disagrees with torch.
    """
    model = load_model(source, trust=trust)
    licence = students.licence_of(source) or "see the student's card"
    config = students.read_config(source)
    metadata = onnx_metadata(
        model,
        name=str(source),
        licence=licence,
        run=config.get("run", ""),
        derived={name: config[name]["sha256"] for name in DERIVED if name in config},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        made = Path(place) / path.name
        export_onnx(model, made, metadata=metadata, resize=resize)
        run, square = open_onnx(made), (model.image_size, model.image_size)
        sizes = (*FRAMES, square) if resize else (square,)
        found = check_frames(model, run if resize else of_squares(run), sizes)
        made.replace(path)
    logger.info("%s matches PyTorch within %.0e on %d batches", path, found["max_difference"], found["batches"])
    small = path.with_suffix(".int8.onnx")
    if int8:
        found["int8"] = add_int8(path, int8, classes=model.classes, thresholds=model.thresholds)
    elif small.is_file():
        small.unlink()
        logger.info("removed %s, which was made from an earlier file; int8=DIR makes a new one", small)
    return found


def of_squares(run: Runner) -> Runner:
    """A runner of uint8 (N, S, S, 3) from one of a file without resizes, which takes one float32 (1, 3, S, S)."""
    return lambda images: np.concatenate([run(image.transpose(2, 0, 1)[None].astype(np.float32)) for image in images])


def check_frames(model: InferenceModel, run: Runner, sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Compares torch and ONNX Runtime on generated frames of these sizes, one at a time and two at a time.

    Raises:
        ValueError: they differ by more than 1e-3, or the student's output is not a probability.
    """
    comparison = Comparison()
    for number, size in enumerate(sizes):
        frame, _ = render(0, number, size=size)
        for frames in (frame[None], np.stack([frame[:, ::-1], frame])):
            what = f"{several(len(frames), 'generated frame')} of {size[0]} x {size[1]} pixels"
            comparison.compare(by_torch(model, frames), run(frames), what=what)
    return {"max_difference": comparison.max_difference, "worst": comparison.worst, "batches": comparison.batches}
