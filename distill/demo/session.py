"""What the page asks for, without its web: images looked at once, and drawn at any threshold from what was seen."""

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
from distill.inference.regions import find
from distill.inference.segmenter import Segmenter
from distill.metrics.overlap import labels

KEPT = 8  # images with their probabilities, the last ones looked at
VIEWS = {"image": "jpeg", "overlay": "jpeg", "mask": "png", "probability": "png"}
UNSPEAKING = ("student", "model.onnx")  # names that every published student has; the run's stands before them
NOWHERE = (".", "..", "~", "/")
MOST_PIXELS = 50_000_000  # of an image; the last 8 of them with one plane of probability are then under 3 GB
GENERATED_SIZE = (384, 480)


@dataclass(frozen=True)
class Seen:
    """An image uint8 (H, W, 3), its probability float32 (K, H, W), and how long the network took."""

    image: np.ndarray
    probability: np.ndarray
    milliseconds: float


class Desk:
    """A student, the last images that it saw, and the example pictures that it was published with.

    Safe to use from several threads; one at a time decodes an image and has the network.
    """

    def __init__(self, segmenter: Segmenter, *, examples: Path | None = None) -> None:
        self.segmenter = segmenter
        self.examples = sorted(examples.glob("*.png")) if examples else []
        self.seen: OrderedDict[str, Seen] = OrderedDict()
        self.lock = threading.Lock()

    def student(self) -> dict[str, Any]:
        """What the page says of the student."""
        segmenter = self.segmenter
        return {
            "name": title_of(segmenter.name),
            "source": segmenter.name,
            "place": segmenter.place,
            "classes": segmenter.classes,
            "threshold": segmenter.threshold,
            "palette": palette(segmenter.classes),
            "examples": len(self.examples),
        }

    def look(self, data: bytes, *, flips: bool = False) -> dict[str, Any]:
        """Segments the bytes of a picture file; the answer names it for `draw` and `findings`.

        Raises:
            OSError: the bytes are no picture, or one of more than `MOST_PIXELS`.
            ValueError: its values have no known range.
        """
        name = hashlib.sha256(data + bytes([flips])).hexdigest()[:32]
        with self.lock:
            image = read_image(data, most_pixels=MOST_PIXELS)
            probability, seconds = self.segmenter.timed(image, flips=flips)
            self.seen[name] = Seen(image, probability, seconds * 1000)
            self.seen.move_to_end(name)
            while len(self.seen) > KEPT:
                self.seen.popitem(last=False)
        height, width = image.shape[:2]
        return {"id": name, "width": width, "height": height, "milliseconds": seconds * 1000}

    def recall(self, name: str) -> Seen:
        """What was seen under a name.

        Raises:
            KeyError: it was never seen, or too many others were since.
        """
        with self.lock:
            return self.seen[name]

    def draw(self, name: str, view: str, *, threshold: float) -> bytes:
        """One of `VIEWS` of an image, as the bytes of a picture file.

        Raises:
            KeyError: no such image or view.
        """
        seen, form = self.recall(name), VIEWS[view]
        if view == "image":
            return encode(Image.fromarray(seen.image), form)
        if view == "probability":
            plane = seen.probability[0] if len(seen.probability) == 1 else 1 - seen.probability[0]
            return encode(probability_picture(plane), form)
        mask = labels(seen.probability, threshold=threshold)
        if view == "mask":
            return encode(mask_picture(mask, classes=self.segmenter.classes), form)
        return encode(Image.fromarray(draw_overlay(seen.image, mask)), form)

    def findings(self, name: str, *, threshold: float) -> list[dict[str, Any]]:
        """The findings of an image, an entry for each class but the background.

        Raises:
            KeyError: no such image.
        """
        seen = self.recall(name)
        return [asdict(finding) for finding in find(labels(seen.probability, threshold=threshold), seen.probability)]


def title_of(source: str) -> str:
    """The last part of a student's place that says something: the run's, of `runs/RUN/student`, also from within it."""
    given = [part for part in reversed(Path(source).parts) if part not in (*UNSPEAKING, *NOWHERE)]
    whole = [part for part in reversed(Path(source).expanduser().resolve().parts) if part not in UNSPEAKING]
    return (given or whole)[0]


def generated(number: int) -> bytes:
    """A frame of the built-in generator as PNG, for those who have no image at hand."""
    from distill.data.synthetic.generator import render

    frame, _ = render(2026, number, size=GENERATED_SIZE)
    return encode(Image.fromarray(frame), "png")
