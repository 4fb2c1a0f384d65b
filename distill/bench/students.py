"""The cost of students: latency of one frame, throughput of eight, in torch, as exported file and as int8 file."""

from __future__ import annotations

import io
import logging
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import students
from distill.bench.inputs import given
from distill.bench.request import Request
from distill.data.synthetic.generator import render
from distill.evaluation.cost import cost
from distill.inference.model import InferenceModel, load_model
from distill.inference.onnx_file import export_onnx, open_onnx
from distill.publishing.onnx_check import by_torch
from distill.publishing.quantise import quantise
from distill.runtime.timing import Row, Timing, interleaved, work_ratio

KEYS = {
    "students": "students to measure, such as unet,microaunet; each at a fixed width, with random weights",
    "sizes": "input sizes in pixels a side, such as 256,352",
    "student": "a published folder instead, with its own weights and size",
    "trust": "class of that student if it is your own, such as my_nets:Net, whose code is then run",
}
WIDTHS = {"microaunet": 8, "malunet": 8, "scrnet": 16, "unet": 16, "unetpp": 8, "timm_unet": 16, "pranet": 32}
ASKED = "microaunet,malunet,scrnet,unet"
FRAME = (529, 622)  # of Kvasir's commonest images
CAMERAS = (FRAME, (720, 1280), (1080, 1920))  # rows and columns of camera frames
TEMPERATURE = 1.5  # for random weights, because published students have one: it acts on every pixel of the frame
MANY = 8  # frames of a batch
WASTEFUL = ("microaunet", "malunet", "scrnet")  # their published design consists of many small kernels
FASTER = 0.75  # at most: time of the exported file over that of the plain one, for these students
CLOSE = 1e-5  # at most: difference of a probability from torch
REAL_TIME = 60.0  # frames per second of MicroAUNet at 256 pixels on one core, decoding and mask included

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Subject:
    """A network to be measured: its name, the network with its resizes, and the folder of its files."""

    name: str
    deploy: InferenceModel
    folder: Path

    @property
    def size(self) -> int:
        """The input side in pixels."""
        return self.deploy.image_size


def measure(request: Request) -> list[Row]:
    """The rows of every student at every size.

    Raises:
        ValueError: a student is unknown, or sizes are not numbers.
    """
    rows: list[Row] = []
    for name, deploy in subjects(request):
        with tempfile.TemporaryDirectory() as place:
            logger.info("exporting %s at %d pixels", name, deploy.image_size)
            subject = Subject(name, deploy, Path(place))
            rows += measure_one(subject, rounds=request.rounds, threads=request.threads)
    return rows


def subjects(request: Request) -> list[tuple[str, InferenceModel]]:
    """The networks named by `students` and `sizes`, or by `student`."""
    options = request.options
    if folder := options.get("student"):
        if taken := sorted({"students", "sizes"} & set(options)):
            raise ValueError(f"student={folder} has its own network and size; leave out {' and '.join(taken)}=")
        return [(Path(folder).name, load_model(folder, trust=options.get("trust")))]
    words = options.get("sizes", "256").split(",")
    if not all(word.isdecimal() and int(word) >= 32 for word in words):
        raise ValueError(f"sizes is {options['sizes']!r}, but must be pixels a side, each at least 32, as in 256,352")
    names = options.get("students", ASKED).split(",")
    if unknown := [name for name in names if name not in WIDTHS]:
        raise ValueError(f"no benchmark of student {unknown[0]!r}; choose from {', '.join(WIDTHS)}")
    found = []
    for name in names:
        for word in words:
            torch.manual_seed(0)
            network = students.create(name, width=WIDTHS[name]).eval()
            deploy = InferenceModel(network, image_size=int(word), temperature=TEMPERATURE).eval()
            found.append((f"{name} {WIDTHS[name]}", deploy))
    return found


def frames(size: tuple[int, int], count: int) -> np.ndarray:
    """Generated frames, uint8 (count, *size, 3)."""
    return np.stack([render(0, index, size=size)[0] for index in range(count)])


def write_files(subject: Subject) -> dict[str, Path]:
    """The network as the plain, the exported and the int8 file."""
    paths = {name: subject.folder / f"{name}.onnx" for name in ("plain", "exported", "int8")}
    export_onnx(subject.deploy, paths["plain"], metadata={}, plain=True)
    export_onnx(subject.deploy, paths["exported"], metadata={})
    quantise(paths["exported"], paths["int8"], given(frames((subject.size, subject.size), MANY)))
    return paths


def measure_one(subject: Subject, *, rounds: int, threads: int) -> list[Row]:
    """The rows of one student at one size."""
    runs: dict[str, Callable[[np.ndarray], np.ndarray]] = {"eager": partial(by_torch, subject.deploy)}
    runs |= {name: open_onnx(path, threads=threads) for name, path in write_files(subject).items()}
    images = frames((subject.size, subject.size), MANY)
    what, title = f"{subject.name} at {subject.size}", f"{subject.name}, {subject.size} px"
    one = interleaved({name: partial(run, images[:1]) for name, run in runs.items()}, rounds=rounds, what=what)
    many = interleaved(
        {name: partial(run, images) for name, run in runs.items()}, rounds=max(3, rounds // 4), what=what
    )
    size = cost(subject.deploy.student, image_size=subject.size)
    rows = [
        Row("parameters", size["parameters"] / 1e3, "thousand"),
        Row("multiply-accumulates", size["macs"] / 1e6, "million", note="one image"),
        *(row for name in runs for row in latency_rows(name, one[name], many[name])),
        *camera_rows(runs["exported"], rounds=rounds, what=what),
    ]
    rows += verdicts(subject, one, {name: run(images) for name, run in runs.items()})
    if subject.name.startswith("microaunet") and subject.size == 256:
        rows.append(end_to_end(runs["exported"], rounds=rounds))
    return [replace(row, figure=f"{title}: {row.figure}") for row in rows]


def latency_rows(name: str, one: Timing, many: Timing) -> list[Row]:
    """Percentiles of one frame, and frames per second in batches."""
    note = f"{len(one.seconds)} runs; a frame of the network's own size, normalisation and calibration included"
    figures = [(f"{name}, one frame, p{share}", 1000 * one.percentile(share / 100)) for share in (50, 95, 99)]
    rows = [Row(figure, value, "ms", note=note) for figure, value in figures]
    return [*rows, Row(f"{name}, batches of {MANY}", MANY / many.median, "images/s")]


def camera_rows(run: Callable[[np.ndarray], np.ndarray], *, rounds: int, what: str) -> list[Row]:
    """Milliseconds for one frame of a camera; `run` maps uint8 (1, H, W, 3) to probabilities (1, K, H, W)."""
    images = {f"{size[1]} x {size[0]}": frames(size, 1) for size in CAMERAS}
    timings = interleaved({name: partial(run, image) for name, image in images.items()}, rounds=rounds, what=what)
    note = "from the frame in memory to its probability, both resizes and calibration included"
    return [
        Row(f"exported, one frame of {name}, p50", 1000 * timing.percentile(0.5), "ms", note=note)
        for name, timing in timings.items()
    ]


def verdicts(subject: Subject, spent: dict[str, Timing], found: dict[str, np.ndarray]) -> list[Row]:
    """The exported file beside the others: time of one frame, and equality.

    Random weights give nearly constant maps, whose normalisation multiplies rounding errors; there, the file must be no
    further from torch than the plain file.

    Args:
        subject: the network.
        spent: the time of one frame for each.
        found: the probabilities (N, K, H, W) of each.
    """
    limit = FASTER if subject.name.split()[0] in WASTEFUL else None
    far, plain = (float(np.abs(found[name] - found["eager"]).max()) for name in ("exported", "plain"))
    median = "processor time, median over the rounds"
    return [
        Row("exported / plain file", work_ratio(spent, "exported", "plain"), "x", at_most=limit, note=median),
        Row("exported / eager", work_ratio(spent, "exported", "eager"), "x", at_most=1.0, note=median),
        Row("int8 / exported", work_ratio(spent, "int8", "exported"), "x", note=f"{median}; published only up to 0.95"),
        Row("exported - eager", far, "", at_most=max(CLOSE, plain), note=f"of any probability; plain file {plain:.1e}"),
    ]


def end_to_end(run: Callable[[np.ndarray], np.ndarray], *, rounds: int) -> Row:
    """Frames per second of CPU time from the bytes of a JPEG to a mask of its size; `run` maps uint8 (1, H, W, 3) to
    probabilities (1, K, H, W).
    """
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(frames(FRAME, 1)[0]).save(stream, "JPEG", quality=95)

    def serve() -> np.ndarray:
        image = np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
        return run(image[None])[0, 0] >= 0.5

    timing = interleaved({"serve": serve}, rounds=rounds, what="end to end")["serve"]
    note = f"decode, resize, network, mask at {FRAME[1]} x {FRAME[0]}; processor time"
    return Row("end to end", 1 / statistics.median(timing.work), "images/s", at_least=REAL_TIME, note=note)
