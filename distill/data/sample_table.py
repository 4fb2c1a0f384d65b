"""Very many samples in one mapped file, which all processes of a machine and their loading processes share.

As objects a million samples take 1.3 GB, in each of eight processes and, since counting references writes to them, in
each of their forked loaders too. Here they take 0.3 GB once, and a sample is made when it is asked for.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from cache.files import temporary_file
from distill.data.sample import KeyedSamples, Reader, Sample, Splits

FROM = 20_000  # images from which they are kept in a file
AT_ONCE = 4096  # samples that are written or made at once
NONE = -1

logger = logging.getLogger("bandpass")

ROW = np.dtype(
    [
        ("keys", "u1", (2, 32)),  # sha256 of image and mask
        ("masked", "?"),  # whether there is a mask
        ("size", "<i4", 2),  # height and width
        ("numbers", "<i4", 3),  # of the data set, and of what reads image and mask
        ("begin", "<i8"),  # of the texts in bytes
        ("lengths", "<i4", 4),  # of stem, group, places of image and mask; `NONE`: no group, or the mask is of no file
    ]
)


class NoFileError(ValueError):
    """A sample whose pixels are not in files of its own."""


@dataclass(frozen=True)
class SampleFile:
    """A file of samples: all texts, then the rows. It goes with the process that wrote it."""

    path: Path
    count: int
    datasets: tuple[str, ...]
    readers: tuple[Callable[[Any], np.ndarray], ...]

    @cached_property
    def rows(self) -> NDArray[np.void]:
        """A row (n,) for each sample.

        Raises:
            FileNotFoundError: the file is not there, or not on this machine.
        """
        size = self.count * ROW.itemsize
        return np.memmap(self.path, ROW, "r", self.path.stat().st_size - size, (self.count,)).view(np.ndarray)

    @cached_property
    def text(self) -> NDArray[np.uint8]:
        """The texts one after the other."""
        return np.memmap(self.path, np.uint8, "r").view(np.ndarray)

    def __reduce__(self) -> tuple[type[SampleFile], tuple[Any, ...]]:
        """For another process, which maps the file itself."""
        return SampleFile, (self.path, self.count, self.datasets, self.readers)


@dataclass(frozen=True, eq=False)
class SampleTable(KeyedSamples):
    """Samples that lie in a file from row `start` to `stop`."""

    file: SampleFile
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | Sequence[Sample]:
        """A sample, or those of a slice, which stay in the file where they follow one another."""
        chosen = range(self.start, self.stop)[place]
        if isinstance(chosen, int):
            return next(self._make(chosen, chosen + 1))
        if chosen.step == 1:
            return SampleTable(self.file, chosen.start, chosen.stop)
        return tuple(next(self._make(row, row + 1)) for row in chosen)

    def __iter__(self) -> Iterator[Sample]:
        for start in range(self.start, self.stop, AT_ONCE):
            yield from self._make(start, min(start + AT_ONCE, self.stop))

    def __add__(self, other: Sequence[Sample]) -> Sequence[Sample]:
        """The samples of both, in the file where the others follow these there."""
        if isinstance(other, SampleTable) and other.file is self.file and other.start == self.stop:
            return SampleTable(self.file, self.start, other.stop)
        return (*self, *other) if len(other) else self

    def __radd__(self, other: Sequence[Sample]) -> Sequence[Sample]:
        return (*other, *self) if len(other) else self

    def key_pairs(self) -> Iterator[tuple[str, str]]:
        """The keys of image and mask of each sample."""
        for start in range(self.start, self.stop, AT_ONCE):
            yield from _key_pairs(self.file.rows[start : min(start + AT_ONCE, self.stop)])

    def _make(self, start: int, stop: int) -> Iterator[Sample]:
        """The samples of some rows."""
        rows, file = self.file.rows[start:stop], self.file
        columns = (rows[name].tolist() for name in ("size", "numbers", "begin", "lengths"))
        for (key, mask_key), (height, width), numbers, begin, lengths in zip(_key_pairs(rows), *columns, strict=True):
            ends = list(accumulate((max(0, length) for length in lengths), initial=begin))
            stem, group, image, mask = (
                None if length == NONE else os.fsdecode(file.text[first:last].tobytes())
                for length, (first, last) in zip(lengths, pairwise(ends), strict=True)
            )
            yield Sample(
                dataset=file.datasets[numbers[0]],
                stem=str(stem),
                key=key,
                mask_key=mask_key,
                size=(height, width),
                group=group,
                read_image=Reader(file.readers[numbers[1]], image),
                read_mask=Reader(file.readers[numbers[2]], (height, width) if mask is None else mask),
            )


def _key_pairs(rows: NDArray[np.void]) -> Iterator[tuple[str, str]]:
    """The keys of image and mask of rows (n,)."""
    text, masked = rows["keys"].tobytes().hex(), rows["masked"].tolist()
    for place, has_mask in zip(range(0, len(text), 128), masked, strict=True):
        yield text[place : place + 64], text[place + 64 : place + 128] if has_mask else ""


def is_in_file(splits: Splits) -> bool:
    """Whether the samples are in a file."""
    return isinstance(splits.train, SampleTable)


def is_in_reach(splits: Splits) -> bool:
    """Whether samples in another process's file can be read here; from then on they can whatever becomes of it."""
    try:
        return isinstance(splits.train, SampleTable) and len(splits.train.file.text) > 0 < len(splits.train.file.rows)
    except (OSError, ValueError):  # absent or cut short
        return False


def in_file(splits: Splits, home: Path) -> Splits:
    """The same splits with all samples in a file of `home`, if they are many and their pixels are in files too."""
    parts = (splits.train, splits.unlabelled, splits.val, *splits.test.values())
    if (total := sum(map(len, parts))) < FROM:
        return splits
    try:
        file = write(chain(*parts), home)
        file.rows, file.text  # noqa: B018 - mapped at once, which some file systems refuse
    except NoFileError:
        return splits
    except OSError as error:
        sentence = "no file can be kept in %s (%s): %d samples stay in the memory of each process"
        logger.warning(sentence, home, error.strerror, total)
        return splits
    spans = pairwise(accumulate(map(len, parts), initial=0))
    train, unlabelled, val, *test = (SampleTable(file, start, stop) for start, stop in spans)
    return replace(splits, train=train, unlabelled=unlabelled, val=val, test=dict(zip(splits.test, test, strict=True)))


def _readers_of(sample: Sample) -> tuple[Reader, Reader]:
    """The readers of image and mask of a sample.

    Raises:
        NoFileError: the image is no file of its own, or the mask is neither a file nor unknown.
    """
    image, mask = sample.read_image, sample.read_mask
    if not (isinstance(image, Reader) and isinstance(mask, Reader) and isinstance(image.source, str)):
        raise NoFileError
    if not (isinstance(mask.source, str) or mask.source == sample.size):
        raise NoFileError
    return image, mask


def write(samples: Iterable[Sample], home: Path) -> SampleFile:
    """Writes samples into a file of a folder that is removed when this process ends.

    Raises:
        NoFileError: the pixels of one are not in files.
        OSError: the disk is full.
    """
    home.mkdir(parents=True, exist_ok=True)
    descriptor, path = temporary_file(home)
    datasets: dict[str, int] = {}
    readers: dict[int, tuple[int, Callable[[Any], np.ndarray]]] = {}  # id -> number and function, which keeps the id
    found: list[NDArray[np.void]] = []
    stream = os.fdopen(descriptor, "wb", closefd=False)
    try:
        remaining = iter(samples)
        while some := list(islice(remaining, AT_ONCE)):
            found.append(_write_some(some, stream, datasets, readers))
        for rows in found:
            stream.write(rows.tobytes())
        stream.close()
    except BaseException:
        _remove(path, descriptor, os.getpid())
        raise
    file = SampleFile(path, sum(map(len, found)), tuple(datasets), tuple(read for _, read in readers.values()))
    weakref.finalize(file, _remove, path, descriptor, os.getpid())
    return file


def _write_some(
    samples: Sequence[Sample],
    stream: BinaryIO,
    datasets: dict[str, int],
    readers: dict[int, tuple[int, Callable[[Any], np.ndarray]]],
) -> NDArray[np.void]:
    """Writes the texts of samples; their rows (n,)."""
    rows = np.zeros(len(samples), ROW)
    numbers: list[tuple[int, int, int]] = []
    texts: list[str | None] = []
    for sample in samples:
        image, mask = _readers_of(sample)
        dataset = datasets.setdefault(sample.dataset, len(datasets))
        read, _ = readers.setdefault(id(image.read), (len(readers), image.read))
        read_mask, _ = readers.setdefault(id(mask.read), (len(readers), mask.read))
        numbers.append((dataset, read, read_mask))
        texts += (sample.stem, sample.group, image.source, mask.source if isinstance(mask.source, str) else None)
    whole = "".join(text for text in texts if text)
    size_of = len if whole.isascii() else _bytes_of
    rows["keys"] = _digests(text for one in samples for text in (one.key, one.mask_key)).reshape(-1, 2, 32)
    rows["masked"] = [bool(sample.mask_key) for sample in samples]
    rows["size"] = [sample.size for sample in samples]
    rows["numbers"] = numbers
    lengths = [NONE if text is None else size_of(text) for text in texts]
    rows["lengths"] = np.reshape(lengths, (-1, 4))
    sizes = rows["lengths"].clip(min=0).sum(axis=1)
    rows["begin"] = stream.tell() + np.cumsum(sizes) - sizes
    stream.write(os.fsencode(whole))
    return rows


def _bytes_of(text: str) -> int:
    """The number of bytes that a text is written in."""
    return len(os.fsencode(text))


def _digests(keys: Iterable[str]) -> NDArray[np.uint8]:
    """Digests of hexadecimal keys one after the other; zeros of an empty key."""
    return np.frombuffer(bytes.fromhex("".join(key or "0" * 64 for key in keys)), np.uint8)


def _remove(path: Path, descriptor: int, process: int) -> None:
    """Removes the file, in the process that made it alone; others have it from that one by forking."""
    if os.getpid() == process:
        path.unlink(missing_ok=True)
        os.close(descriptor)
