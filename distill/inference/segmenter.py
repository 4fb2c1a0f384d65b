"""A published student in use, from a folder or an ONNX file: takes an image of any size, returns its probability."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.inference.thresholds import Thresholds, require_share
from distill.metrics.overlap import IGNORED, THRESHOLD
from distill.runs.fingerprint import digest_file, digest_of, digest_weights, source_of
from distill.runtime.issues import first_line, several
from students.catalogue import place_of
from students.config import locate, read_config

ONNX_SUFFIX = ".onnx"
HUB_FILES = ("config.json", "model.safetensors")
FLIPS = ((), (1,), (0,), (0, 1))  # axes of an image: as it is, left to right, top to bottom, both
TRIED_SIZE = (48, 64)  # of the image on which a student is tried when it is opened
REMEDY = "it is damaged or not fully trained, and is not used; download or publish it again"
ROUNDING = 1e-3  # by which a probability may leave [0, 1]: a resize in float32, or an int8 file


@dataclass(frozen=True)
class Segmenter:
    """A student in use.

    Attributes:
        name: its name in messages.
        digest: digest of its files.
        classes: channels of the probability; 1 means one foreground class.
        thresholds: from its probability to a mask; unused with several classes.
        place: library and device that run it, in words.
        run: maps an RGB image uint8 (H, W, 3) to its probability float32 (K, H, W).
    """

    name: str
    digest: str
    classes: int
    thresholds: Thresholds
    place: str
    run: Callable[[np.ndarray], np.ndarray]

    def probability(self, image: np.ndarray, *, flips: bool = False) -> np.ndarray:
        """Probability float32 (K, H, W) in [0, 1] of an RGB image uint8 (H, W, 3), at its own size.

        Args:
            image: of any height and width.
            flips: average over the image, its two mirror images and the image rotated by 180 degrees, each turned back.

        Raises:
            ValueError: the student's output is not a probability.
        """
        if not flips:
            return self._checked(image)
        total = np.zeros((self.classes, *image.shape[:2]), np.float32)
        for axes in FLIPS:
            flipped = self._checked(np.flip(image, axes).copy())  # ascontiguousarray leaves a side of 1 pixel reversed
            total += np.flip(flipped, tuple(axis + 1 for axis in axes))
        return total / len(FLIPS)

    def _checked(self, image: np.ndarray) -> np.ndarray:
        """The output of `run` for an image (H, W, 3), checked to be a probability (K, H, W)."""
        found = self.run(image)
        require_probability(found, (self.classes, *image.shape[:2]), what=self.name)
        return found

    def timed(self, image: np.ndarray, *, flips: bool = False) -> tuple[np.ndarray, float]:
        """The probability (K, H, W), and the seconds from pixels in memory to probability in memory."""
        began = time.perf_counter()
        probability = self.probability(image, flips=flips)
        return probability, time.perf_counter() - began


def require_probability(found: np.ndarray, shape: tuple[int, ...], *, what: str) -> None:
    """Refuses an output that is not a probability: "nothing found" by a damaged student would be false.

    Args:
        found: the output, (N, K, H, W) or (K, H, W).
        shape: the required shape.
        what: the source of the output, in words.

    Raises:
        ValueError: another shape, values that are not finite, or values outside [0, 1].
    """
    if found.shape != shape:
        raise ValueError(f"expected probabilities of shape {shape} of {what}, got {found.shape}; {REMEDY}")
    low, high = float(found.min()), float(found.max())  # either is nan where any value is
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ValueError(f"expected probabilities in [0, 1] of {what}, got values from {low:g} to {high:g}; {REMEDY}")


def settle_thresholds(segmenter: Segmenter, pixel: float | None = None, region: float | None = None) -> Thresholds:
    """The requested thresholds, or the student's own where None is given.

    Raises:
        ValueError: one is not a probability, or the student has several classes.
    """
    asked = {"threshold": pixel, "region_threshold": region}
    for name, value in asked.items():
        if value is None:
            continue
        if segmenter.classes > 1:
            raise ValueError(
                f"{segmenter.name} has {segmenter.classes} classes, of which the most probable is taken, so "
                f"{name}= has no meaning; take it out"
            )
        require_share(name, value)
    own = segmenter.thresholds
    return Thresholds(own.pixel if pixel is None else pixel, own.region if region is None else region)


def require_student(source: str | Path) -> None:
    """Raises FileNotFoundError if no student has this name; opens nothing."""
    path = Path(place_of(source)).expanduser()
    if path.suffix.lower() != ONNX_SUFFIX:
        locate(source, "config.json")
    elif not path.is_file():
        raise FileNotFoundError(f"expected an ONNX file at student={path}, found none")


def open_segmenter(source: str | Path, *, trust: str | None = None) -> Segmenter:
    """Opens a published folder, a hub id, `zoo:NAME` or a `model.onnx`, and tries it on one image.

    A folder runs on the GPU if there is one; an ONNX file runs on the CPU.

    Args:
        source: one of these.
        trust: the user's own student class, as for `students.load`.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is not a student that Bandpass published, or its output is not a probability.
    """
    require_student(source)
    path = Path(place_of(source)).expanduser()
    if path.suffix.lower() == ONNX_SUFFIX:
        segmenter = _open_onnx(path)
    else:
        folders = [path] if path.is_dir() else [locate(source, name).parent for name in HUB_FILES]
        segmenter = _open_folder(folders[0], name=str(source), trust=trust)
    levels = np.arange(3 * TRIED_SIZE[0] * TRIED_SIZE[1], dtype=np.uint32) % 251
    segmenter.probability(levels.astype(np.uint8).reshape(*TRIED_SIZE, 3))
    return segmenter


def _open_folder(folder: Path, *, name: str, trust: str | None) -> Segmenter:
    import torch

    from distill.inference.model import load_model

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights, own = digest_weights(str(folder), served=True), source_of(read_config(folder)["student"])
    with contextlib.redirect_stdout(io.StringIO()):  # the hub's mixin prints that it reads a folder
        model = load_model(folder, trust=trust).to(device)
    threads = f" ({several(torch.get_num_threads(), 'thread')})" if device.type == "cpu" else ""
    return Segmenter(
        name=name,
        digest=digest_of([weights, *own]) if own else weights,  # another class of the user makes other masks
        classes=model.classes,
        thresholds=model.thresholds,
        place=f"torch on {device.type}{threads}",
        run=model.predict,
    )


def _open_onnx(path: Path) -> Segmenter:
    import torch

    from distill.inference.onnx_file import ONNX_INPUT, ONNX_OUTPUT, start_session
    from students.published import require_published

    require_published(path)
    threads = torch.get_num_threads()
    try:
        session = start_session(path, threads=threads)
    except Exception as error:  # its errors share no class of their own
        raise ValueError(f"ONNX Runtime cannot open {path}: {first_line(error)}") from error
    inputs = {entry.name: entry.type for entry in session.get_inputs()}
    outputs = {entry.name: entry.shape for entry in session.get_outputs()}
    if inputs != {ONNX_INPUT: "tensor(uint8)"} or len(outputs.get(ONNX_OUTPUT, ())) != 4:
        raise ValueError(
            f"{path} takes {inputs} and returns {sorted(outputs)}, but a published student takes '{ONNX_INPUT}' "
            f"(uint8, N x H x W x 3) and returns '{ONNX_OUTPUT}' (N x K x H x W); publish it with distill publish, "
            "without resize=false"
        )
    classes, thresholds = read_metadata(path, session.get_modelmeta().custom_metadata_map, outputs[ONNX_OUTPUT][1])
    return Segmenter(
        name=str(path),
        digest=digest_file(path),
        classes=classes,
        thresholds=thresholds,
        place=f"ONNX Runtime on cpu ({several(threads, 'thread')})",
        run=lambda image: session.run([ONNX_OUTPUT], {ONNX_INPUT: np.ascontiguousarray(image)[None]})[0][0],
    )


def read_metadata(path: Path, metadata: Mapping[str, str], channels: object) -> tuple[int, Thresholds]:
    """Classes and thresholds of an ONNX file, by its metadata.

    Args:
        path: of the file.
        metadata: its `metadata_props`.
        channels: of its output; a number if the file fixes it.

    Raises:
        ValueError: numbers are out of range, or classes differ from the output's channels.
    """
    classes = int(_number_of(metadata, "classes", default=channels, lowest=1, highest=IGNORED - 1, name=path))
    if isinstance(channels, int) and classes != channels:
        raise ValueError(f"{path} says classes={classes}, but its output has {channels}; publish the student again")
    pixel = _number_of(metadata, "threshold", default=THRESHOLD, highest=1, name=path)
    return classes, Thresholds(pixel, _number_of(metadata, "region_threshold", default=pixel, highest=1, name=path))


def _number_of(
    description: Mapping[str, object], key: str, *, default: object, highest: float, lowest: float = 0, name: object
) -> float:
    """A number of a student's description: above 0, from `lowest` to `highest`; whole if `lowest` is given."""
    text = description.get(key, default)
    try:
        number = float(str(text))
    except ValueError:
        number = 0.0
    if not (number > 0 and lowest <= number <= highest) or (lowest and number % 1):
        kind = f"a whole number from {lowest:g}" if lowest else "a number over 0 and"
        raise ValueError(f"{name} says {key}={text}, but expected {kind} up to {highest:g}; publish the student again")
    return number
