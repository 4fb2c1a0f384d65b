"""A published student in use, from a folder or an ONNX file: an image of any size in, its probability out."""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.metrics.overlap import THRESHOLD
from distill.runs.fingerprint import digest_file, digest_weights
from distill.runtime.issues import several

ONNX_SUFFIX = ".onnx"
ONNX_INPUT, ONNX_OUTPUT = "image", "probability"  # as `distill.inference.onnx_file` names them
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ("config.json", "model.safetensors")
FLIPS = ((), (1,), (0,), (0, 1))  # axes of an image: as it is, left to right, top to bottom, both


@dataclass(frozen=True)
class Segmenter:
    """A student as it is used.

    Attributes:
        name: as messages call it.
        digest: of the files that it was read from.
        classes: channels of the probability; 1 means one foreground class.
        threshold: from which probability on a pixel is foreground; of no meaning for several classes.
        place: what runs it, in words.
        run: an RGB image uint8 (H, W, 3) to its probability float32 (K, H, W).
    """

    name: str
    digest: str
    classes: int
    threshold: float
    place: str
    run: Callable[[np.ndarray], np.ndarray]

    def probability(self, image: np.ndarray, *, flips: bool = False) -> np.ndarray:
        """Probability float32 (K, H, W) in [0, 1] of an RGB image uint8 (H, W, 3), at its own size.

        Args:
            image: of any height and width.
            flips: the mean over the image, its two mirror images and the image turned by half, each turned back.
        """
        if not flips:
            return self.run(image)
        total = np.zeros((self.classes, *image.shape[:2]), np.float32)
        for axes in FLIPS:
            seen = self.run(np.flip(image, axes).copy())  # ascontiguousarray leaves a side of 1 pixel reversed
            total += np.flip(seen, tuple(axis + 1 for axis in axes))
        return total / len(FLIPS)

    def timed(self, image: np.ndarray, *, flips: bool = False) -> tuple[np.ndarray, float]:
        """The same with how long it took, in seconds: from pixels in memory to the probability in memory."""
        began = time.perf_counter()
        probability = self.probability(image, flips=flips)
        return probability, time.perf_counter() - began


def open_segmenter(source: str | Path, *, trust: str | None = None) -> Segmenter:
    """Opens a published folder, a hub id or a `model.onnx`.

    A folder runs on the GPU where there is one; an ONNX file runs on the CPU.

    Args:
        source: which of these.
        trust: the class of a student of the user's own, as for `students.load`.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is no student that Bandpass published.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() == ONNX_SUFFIX:
        return _open_onnx(path)
    return _open_folder(path if path.is_dir() else _fetch(str(source)), name=str(source), trust=trust)


def _open_folder(folder: Path, *, name: str, trust: str | None) -> Segmenter:
    import torch

    from distill.inference import model as deploy

    inner = folder / "student"
    if not (folder / "config.json").is_file() and (inner / "config.json").is_file():
        raise FileNotFoundError(f"{name} is a run, whose student is in a folder of its own: student={inner}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with contextlib.redirect_stdout(io.StringIO()):  # where the hub's mixin says that it reads a folder
        network = deploy.load(folder, trust=trust).to(device)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    threads = f" ({several(torch.get_num_threads(), 'thread')})" if device.type == "cpu" else ""
    return Segmenter(
        name=name,
        digest=digest_weights(str(folder)),
        classes=network.classes,
        threshold=float(config.get("threshold", THRESHOLD)),
        place=f"torch on {device.type}{threads}",
        run=lambda image: deploy.predict(network, np.require(image, requirements="W")),  # torch warns of others
    )


def _fetch(source: str) -> Path:
    """The local copy of a student on the hub."""
    if not HUB_ID.fullmatch(source):
        raise FileNotFoundError(
            f"expected a published student at student={source}: a folder with config.json, a model.onnx, or a hub id "
            "as owner/name; found none"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # of the hub's client and of what it fetches with: they change by version
        raise FileNotFoundError(
            f"student={source} is no folder here, and as a hub id it cannot be fetched: {first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says first; its name where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _open_onnx(path: Path) -> Segmenter:
    import torch

    from distill.inference.onnx_file import start_session

    if not path.is_file():
        raise FileNotFoundError(f"expected an ONNX file at student={path}, found none")
    threads = torch.get_num_threads()
    try:
        session = start_session(path, threads=threads)
    except Exception as error:  # its errors share no class of their own
        raise ValueError(f"ONNX Runtime cannot open {path}: {first_line(error)}") from error
    inputs = {entry.name: entry.type for entry in session.get_inputs()}
    outputs = {entry.name: entry.shape for entry in session.get_outputs()}
    if inputs != {ONNX_INPUT: "tensor(uint8)"} or ONNX_OUTPUT not in outputs:
        raise ValueError(
            f"{path} takes {inputs} and returns {sorted(outputs)}, but a published student takes '{ONNX_INPUT}' "
            f"(uint8, N x H x W x 3) and returns '{ONNX_OUTPUT}'; publish it with do=publish"
        )
    said = session.get_modelmeta().custom_metadata_map
    return Segmenter(
        name=str(path),
        digest=digest_file(path),
        classes=int(said.get("classes", outputs[ONNX_OUTPUT][1])),
        threshold=float(said.get("threshold", THRESHOLD)),
        place=f"ONNX Runtime on cpu ({several(threads, 'thread')})",
        run=lambda image: session.run([ONNX_OUTPUT], {ONNX_INPUT: np.ascontiguousarray(image)[None]})[0][0],
    )
