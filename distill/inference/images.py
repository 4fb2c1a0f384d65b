"""Prediction of images: a mask, an overlay and a row of figures each; finished ones are skipped."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from distill.data.image_io import encoded, read_image
from distill.inference.inputs import Input
from distill.inference.output_dir import (
    MASKS,
    OVERLAYS,
    PICTURE_TABLE,
    PROBABILITIES,
    Table,
    place,
    remove_results,
    whole_file,
)
from distill.inference.overlay import draw_overlay, mask_picture, probability_picture
from distill.inference.regions import COLUMNS, measure_regions
from distill.inference.segmenter import Segmenter
from distill.inference.thresholds import Thresholds
from distill.runtime.issues import first_line

TABLE_COLUMNS = ("image", "key", "width", "height", *COLUMNS)
DARK = 64  # of 255: an image without a brighter level is nearly black, such as 12 bits stored as 16
UNREADABLE = (OSError, ValueError)
JPEG = {"quality": 92, "subsampling": 0}  # colours at full resolution: a contour is thin


@dataclass(frozen=True)
class Options:
    """Settings of masks, and of the files to write."""

    thresholds: Thresholds
    flips: bool = False
    probabilities: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result of one image."""

    found: bool = False
    seconds: float | None = None  # in the network; None if its results existed already
    dark: bool = False  # no level reaches `DARK`
    failure: str = ""  # why it cannot be read or segmented


class ImagePredictor:
    """Writes the results of images into `out`; threads may share it, and one at a time uses the network."""

    def __init__(self, segmenter: Segmenter, options: Options, *, out: Path) -> None:
        self.segmenter, self.options, self.out = segmenter, options, out
        self.table = Table(out / PICTURE_TABLE, TABLE_COLUMNS)
        self.network = threading.Lock()

    def __call__(self, one: Input) -> Outcome:
        """Writes the results of an image, unless they exist for the same bytes; if it fails, none stay."""
        try:
            data = encoded(one.path)
            key = hashlib.sha256(data).hexdigest()
            if self.is_done(one, key):
                return Outcome(found=any(int(row["area"]) for row in self.table.of(one.name)))
            image = read_image(data)
        except UNREADABLE as error:
            return self.failed(one, f"cannot be read ({first_line(error)})")
        try:
            with self.network:
                probability, seconds = self.segmenter.timed(image, flips=self.options.flips)
            mask = self.options.thresholds.mask(probability)
            files = list(self.files(one, image, mask, probability))  # fails for a JPEG of over 65,500 pixels
        except Exception as error:  # of torch or ONNX Runtime, whose errors share no class
            return self.failed(one, f"cannot be segmented ({first_line(error)})")
        for path, content in files:
            with whole_file(path) as file:
                file.write_bytes(content)
        height, width = mask.shape
        rows = [regions.row() for regions in measure_regions(mask, probability)]
        self.table.put(one.name, [{"key": key, "width": width, "height": height, **row} for row in rows])
        return Outcome(found=bool(mask.any()), seconds=seconds, dark=bool(image.max() < DARK))

    def failed(self, one: Input, why: str) -> Outcome:
        """The outcome of an image that failed; results of the file's earlier content are removed."""
        remove_results(self.paths(one), self.table, name=one.name)
        return Outcome(failure=f"{one.path} {why}")

    def files(
        self, one: Input, image: np.ndarray, mask: np.ndarray, probability: np.ndarray
    ) -> Iterator[tuple[Path, bytes]]:
        """The files of a result and their bytes, from an image (H, W, 3), a mask (H, W) and a probability (K, H, W)."""
        mask_file, overlay, *maps = self.paths(one)
        yield mask_file, encode(mask_picture(mask, classes=self.segmenter.classes), "png")
        yield overlay, encode(Image.fromarray(draw_overlay(image, mask)), "jpeg")
        planes = probability if len(probability) == 1 else probability[1:]
        for path, plane in zip(maps, planes, strict=len(maps) > 0):
            yield path, encode(probability_picture(plane), "png")

    def paths(self, one: Input) -> list[Path]:
        """The files of an image's results: mask, overlay, then probabilities, a file for each class but background."""
        stem, classes = one.stem, self.segmenter.classes
        paths = [place(self.out, MASKS, stem, ".png"), place(self.out, OVERLAYS, stem, ".jpg")]
        if self.options.probabilities:
            suffixes = [".png"] if classes == 1 else [f".{label}.png" for label in range(1, classes)]
            paths += [place(self.out, PROBABILITIES, stem, suffix) for suffix in suffixes]
        return paths

    def is_done(self, one: Input, key: str) -> bool:
        """Whether the results of an image exist, for the same bytes."""
        rows = self.table.of(one.name)
        return bool(rows) and rows[0]["key"] == key and all(path.is_file() for path in self.paths(one))


def encode(picture: Image.Image, form: str) -> bytes:
    """A picture as the bytes of a PNG or JPEG file."""
    stream = io.BytesIO()
    picture.save(stream, form, **(JPEG if form == "jpeg" else {"compress_level": 4}))
    return stream.getvalue()


def predict_images(
    predictor: ImagePredictor, images: Sequence[Input], *, threads: int
) -> Generator[Outcome, None, None]:
    """The outcome of each image in turn; others are read and written while one is in the network.

    The table is saved at the end, even if the run is interrupted.
    """
    pool = ThreadPoolExecutor(threads)
    futures: list[Future[Outcome]] = [pool.submit(predictor, one) for one in images]
    try:
        for future in futures:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        predictor.table.save()
