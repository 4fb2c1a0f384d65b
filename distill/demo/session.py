"""The demo without HTTP: images are segmented once, and drawn at any thresholds from their probability."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distill.data.image_io import read_image
from distill.inference.images import encode
from distill.inference.overlay import draw_overlay, mask_picture, palette, probability_picture
from distill.inference.regions import measure_regions
from distill.inference.segmenter import Segmenter
from distill.inference.thresholds import Thresholds
from distill.metrics.overlap import foreground_of

KEPT = 8  # the last segmented images, with their probabilities
VIEWS = {"image": "jpeg", "overlay": "jpeg", "mask": "png", "probability": "png"}
GENERIC = ("student", "model.onnx")  # generic names of published students; the run's name comes before them
NOWHERE = (".", "..", "~", "/")
MOST_PIXELS = 50_000_000  # of an image; 8 of them, with one plane of probability, take under 3 GB
GENERATED_SIZE = (384, 480)


@dataclass(frozen=True)
class Segmented:
    """An image uint8 (H, W, 3), its probability float32 (K, H, W), and how long the network took."""

    image: np.ndarray
    probability: np.ndarray
    milliseconds: float

    def facts(self) -> dict[str, Any]:
        """Its size in pixels, and the time."""
        height, width = self.image.shape[:2]
        return {"width": width, "height": height, "milliseconds": self.milliseconds}

    def regions(self, mask: np.ndarray) -> list[dict[str, Any]]:
        """The regions of a mask uint8 (H, W) of it, an entry for each class but the background."""
        return [asdict(regions) for regions in measure_regions(mask, self.probability)]

    def overlay(self, mask: np.ndarray) -> bytes:
        """A mask uint8 (H, W) drawn onto it, as the bytes of a JPEG file."""
        return encode(Image.fromarray(draw_overlay(self.image, mask)), VIEWS["overlay"])


class Session:
    """A student, the last images that it segmented, and its published example pictures.

    Safe to use from several threads; one at a time decodes an image and uses the network, and one at a time draws, so
    memory does not grow with the number of requests.
    """

    def __init__(self, segmenter: Segmenter, *, examples: Path | None = None) -> None:
        self.segmenter = segmenter
        self.examples = sorted(examples.glob("*.png")) if examples else []
        self.images: OrderedDict[str, Segmented] = OrderedDict()
        self.kept, self.network, self.drawing = threading.Lock(), threading.Lock(), threading.Lock()

    def student(self) -> dict[str, Any]:
        """The student's facts on the page."""
        segmenter = self.segmenter
        return {
            "name": title_of(segmenter.name),
            "source": segmenter.name,
            "place": segmenter.place,
            "classes": segmenter.classes,
            **segmenter.thresholds.entries(),
            "palette": palette(segmenter.classes),
            "examples": len(self.examples),
        }

    def segment(self, data: bytes | bytearray, *, flips: bool = False) -> dict[str, Any]:
        """Segments the bytes of a picture file; the output names it for `draw` and `regions`.

        Raises:
            OSError: the bytes are not a picture, or it has more than `MOST_PIXELS`.
            ValueError: its values have no known range, or the student's output is not a probability.
        """
        digest = hashlib.sha256(data)
        digest.update(bytes([flips]))
        name = digest.hexdigest()[:32]
        with self.network:
            one = self._segmented(data, flips=flips)
            with self.kept:
                self.images[name] = one
                self.images.move_to_end(name)
                while len(self.images) > KEPT:
                    self.images.popitem(last=False)
        return {"id": name, **one.facts()}

    def frame(
        self, data: bytes | bytearray, *, thresholds: Thresholds, flips: bool = False
    ) -> tuple[bytes, dict[str, Any]]:
        """The overlay of a frame of a film as the bytes of a JPEG file, and its figures; nothing is kept.

        Errors as of `segment`.
        """
        with self.network:
            one = self._segmented(data, flips=flips)
        with self.drawing:
            mask = thresholds.mask(one.probability)
            return one.overlay(mask), {**one.facts(), "regions": one.regions(mask)}

    def _segmented(self, data: bytes | bytearray, *, flips: bool) -> Segmented:
        """The bytes of a picture file, segmented; errors as of `segment`."""
        image = read_image(bytes(data), most_pixels=MOST_PIXELS)
        probability, seconds = self.segmenter.timed(image, flips=flips)
        return Segmented(image, probability, seconds * 1000)

    def image(self, name: str) -> Segmented:
        """The image of a name.

        Raises:
            KeyError: it was never segmented, or too many others have been since.
        """
        with self.kept:
            return self.images[name]

    def draw(self, name: str, view: str, *, thresholds: Thresholds) -> bytes:
        """One of `VIEWS` of an image, as the bytes of a picture file.

        Raises:
            KeyError: no such image or view.
        """
        one, form = self.image(name), VIEWS[view]
        with self.drawing:
            if view == "image":
                return encode(Image.fromarray(one.image), form)
            if view == "probability":
                return encode(probability_picture(foreground_of(one.probability)), form)
            mask = thresholds.mask(one.probability)
            if view == "mask":
                return encode(mask_picture(mask, classes=self.segmenter.classes), form)
            return one.overlay(mask)

    def regions(self, name: str, *, thresholds: Thresholds) -> list[dict[str, Any]]:
        """The regions of an image, an entry for each class but the background.

        Raises:
            KeyError: no such image.
        """
        one = self.image(name)
        with self.drawing:
            return one.regions(thresholds.mask(one.probability))


def title_of(source: str) -> str:
    """The last part of a student's place that is not generic: RUN of `runs/RUN/student`, also from within it."""
    given = [part for part in reversed(Path(source).parts) if part not in (*GENERIC, *NOWHERE)]
    whole = [part for part in reversed(Path(source).expanduser().resolve().parts) if part not in GENERIC]
    return (given or whole)[0]


def generated(number: int) -> bytes:
    """A frame of the built-in generator as PNG, for those who have no image at hand."""
    from distill.data.synthetic.generator import render

    frame, _ = render(2026, number, size=GENERATED_SIZE)
    return encode(Image.fromarray(frame), "png")
