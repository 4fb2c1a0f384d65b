"""Samples (pairs of image and mask), and splits of them into parts."""

from __future__ import annotations

import hashlib
import json
import operator
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from heapq import nsmallest
from typing import Any

import numpy as np

from distill.data.image_io import unchanged
from distill.runtime.collector import without_collector

AT_ONCE = 4096  # keys that are written as JSON at once


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the pixels of one source when called; smaller than a `functools.partial`, as there may be millions."""

    read: Callable[[Any], np.ndarray]
    source: Any  # a path as text, or another source of bytes
    key: str = ""  # sha256 (hex) that the bytes must still have; empty: not a file, or not checked

    def __call__(self) -> np.ndarray:
        """The pixels, uint8: (H, W, 3) of an image, (H, W) of a mask.

        Raises:
            ValueError: the file cannot be read any more, or is another one than when the data was opened.
        """
        return self.read(unchanged(self.source, self.key) if self.key else self.source)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its mask, identified by content; pixels are read when needed.

    A mask holds 0 and 1, or class numbers, where 255 is ignored. An unlabelled image has an empty `mask_key` and a mask
    of 255 everywhere. The two readers are made of module functions, so that a sample can be sent to another process.
    """

    dataset: str
    stem: str  # file name without suffix; names the sample in pictures and messages
    key: str  # sha256 (hex) of the image file's bytes
    mask_key: str  # sha256 (hex) of the mask file's bytes
    size: tuple[int, int]  # height and width in pixels, EXIF rotation applied
    group: str | None  # sequence or patient, unique within its data set; None: not known
    read_image: Callable[[], np.ndarray] = field(repr=False, compare=False)  # -> uint8 (H, W, 3) RGB
    read_mask: Callable[[], np.ndarray] = field(repr=False, compare=False)  # -> uint8 (H, W)


class KeyedSamples(Sequence[Sample]):
    """Samples that are made on demand, whose keys are known without making them."""

    @abstractmethod
    def key_pairs(self) -> Iterator[tuple[str, str]]:
        """The keys of image and mask of each sample."""


def by_dataset(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples of each data set, in the order given."""
    sets: dict[str, list[Sample]] = {}
    for sample in samples:
        sets.setdefault(sample.dataset, []).append(sample)
    return sets


def key_pairs_of(samples: Iterable[Sample]) -> Iterator[tuple[str, str]]:
    """The keys of image and mask of each sample."""
    if isinstance(samples, KeyedSamples):
        return samples.key_pairs()
    return ((sample.key, sample.mask_key) for sample in samples)


def keys_of(samples: Iterable[Sample]) -> set[str]:
    """The keys of the images."""
    return {key for key, _ in key_pairs_of(samples)}


@dataclass(frozen=True)
class Splits:
    """The parts of the data. No image key is in two of them: test beats val, val beats train, train beats unlabelled.

    Unlabelled images are used only by imitation terms and `mean_teacher`.
    """

    train: Sequence[Sample]
    val: Sequence[Sample]
    test: Mapping[str, Sequence[Sample]] = field(hash=False)  # data set -> samples
    dropped: int = 0  # images removed from a part because a higher-ranked part holds the same image
    notes: tuple[str, ...] = ()  # sentences about the data for the user
    unlabelled: Sequence[Sample] = ()

    @property
    def training(self) -> Sequence[Sample]:
        """The training images: the labelled ones, then those without a mask."""
        return _joined(self.train, self.unlabelled)

    @property
    def tested(self) -> Sequence[Sample]:
        """The test images of all data sets."""
        return _joined(*self.test.values())

    @property
    def held_out(self) -> Sequence[Sample]:
        """The validation images, then the test images."""
        return _joined(self.val, *self.test.values())

    @property
    def hidden(self) -> set[str]:
        """The keys of images whose masks no student or teacher here may have seen."""
        return keys_of(self.held_out) | keys_of(self.unlabelled)

    def calibration(self, count: int) -> list[Sample]:
        """The training images on which a code is fitted: the `count` with the smallest keys, fixed by content."""
        training = self.training
        places = {key: place for place, (key, _) in enumerate(key_pairs_of(training))}
        return [training[place] for _, place in nsmallest(count, places.items())]

    @cached_property
    @without_collector()
    def digest(self) -> str:
        """The sha256 (hex) over the keys of images and masks of each part; names and places do not count.

        Without unlabelled images it has no entry for them, so that older runs keep their names.
        """
        digest = hashlib.sha256()
        for text in self._texts():
            digest.update(text.encode())
        return digest.hexdigest()

    def _texts(self) -> Iterator[str]:
        """The JSON of all keys in pieces, because that of a million images has 140 MB."""
        yield from ("[", *_texts_of_keys(self.train), ", ", *_texts_of_keys(self.val), ", {")
        for number, name in enumerate(sorted(self.test)):
            yield f"{', ' if number else ''}{json.dumps(name)}: "
            yield from _texts_of_keys(self.test[name])
        yield "}"
        if self.unlabelled:
            yield ", "
            yield from _texts_of_keys(self.unlabelled)
        yield "]"


def _joined(*parts: Sequence[Sample]) -> Sequence[Sample]:
    """The samples of several parts; they stay in their file if they are consecutive there."""
    joined: Sequence[Sample] = reduce(operator.add, parts, ())
    return joined


def _texts_of_keys(samples: Iterable[Sample]) -> Iterator[str]:
    keys = sorted(key_pairs_of(samples))
    yield "["
    for start in range(0, len(keys), AT_ONCE):
        yield (", " if start else "") + json.dumps(keys[start : start + AT_ONCE])[1:-1]
    yield "]"
