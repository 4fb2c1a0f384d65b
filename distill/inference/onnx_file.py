"""Writing a student as one ONNX file, and running it without torch."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.inference.model import InferenceModel, SquareModel
from students.onnx import fuse_for_inference

ONNX_INPUT, ONNX_OUTPUT = "image", "probability"  # names in the file
EXAMPLE_SIZE = (90, 110)  # of the two images the graph is traced with; any other size runs as well
NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")

Runner = Callable[[np.ndarray], np.ndarray]  # uint8 (N, H, W, 3) -> float32 (N, K, H, W)


def export_onnx(
    model: InferenceModel, path: Path, *, metadata: Mapping[str, str], plain: bool = False, resize: bool = True
) -> None:
    """Writes `image` uint8 (N, H, W, 3) -> `probability` float32 (N, K, H, W) for any N, H, W, weights included.

    Without the resizes, float32 (1, 3, S, S) in [0, 255] -> float32 (1, K, S, S), where S is `image_size`.

    Args:
        model: on the CPU, in eval mode; not changed.
        path: the file to write.
        metadata: the file's own description (`metadata_props`).
        plain: layer by layer, without the fused operators of `students.onnx`; for comparison.
        resize: whether the file has the resizes of `InferenceModel`.

    Raises:
        ValueError: the student uses an operation that ONNX does not have.
        OSError: the file cannot be written.
    """
    exported = copy.deepcopy(model)
    if not plain:
        exported.add_module("student", fuse_for_inference(model.student))
    if resize:
        example = torch.zeros(2, *EXAMPLE_SIZE, 3, dtype=torch.uint8)
        sizes = {axis: torch.export.Dim(name) for axis, name in enumerate(("batch", "height", "width"))}
    else:
        example, sizes = torch.zeros(1, 3, model.image_size, model.image_size), {}
    with quiet() as said:
        try:
            program = torch.onnx.export(
                exported if resize else SquareModel(exported),
                (example,),
                dynamo=True,
                input_names=[ONNX_INPUT],
                output_names=[ONNX_OUTPUT],
                dynamic_shapes=(sizes,),
                verbose=False,
            )
            assert program is not None
            program.model.metadata_props.update(metadata)
            program.save(str(path), external_data=False)
        except OSError:  # a full disk says nothing about the student
            raise
        except Exception as error:
            name = type(model.student).__name__
            reason = f"{error}\n{said.getvalue()}".strip()
            raise ValueError(f"student {name} cannot be exported to ONNX: {reason}") from error


def onnx_metadata(
    model: InferenceModel, *, name: str, licence: str, run: str, derived: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The metadata of a student's ONNX file, as strings; thresholds only for one class.

    Args:
        model: with its temperature and thresholds.
        name: of the student.
        licence: of its weights.
        run: that published it.
        derived: the sha256 of the images that it was `adapted` to or `calibrated` on, if it was.
    """
    return {
        "name": name,
        "classes": str(model.classes),
        **({name: str(value) for name, value in model.thresholds.entries().items()} if model.classes == 1 else {}),
        "temperature": str(model.temperature),
        "image_size": str(model.image_size),
        "licence": licence,
        "run": run,
        "digest": run.rpartition("-")[2],
        **(derived or {}),
    }


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Hides the exporter's output, logs and warnings from the user; yields what it printed."""
    said = io.StringIO()
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield said
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def start_session(path: Path, *, threads: int) -> Any:  # noqa: ANN401
    """ONNX Runtime's session of a file on the CPU, with so many threads; 0: its own choice."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning takes cores that torch needs
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def open_onnx(path: Path, *, threads: int = 0) -> Runner:
    """The file, run by ONNX Runtime on the CPU: uint8 (N, H, W, 3) -> probability float32 (N, K, H, W).

    Args:
        path: an ONNX file.
        threads: how many; 0: ONNX Runtime's choice.
    """
    session = start_session(path, threads=threads)

    def run(images: np.ndarray) -> np.ndarray:
        return session.run([ONNX_OUTPUT], {ONNX_INPUT: np.ascontiguousarray(images)})[0]

    return run
