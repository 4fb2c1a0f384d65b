"""Very many samples in one mapped file, shared by all processes of a machine and their loader processes.

As objects, a million samples take 1.2 GB in each of eight processes, and, because reference counting writes to them, in
each of their forked loaders too. In the file they take 0.2 GB once, and a sample is made on demand.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast, overload

import numpy as np
from numpy.typing import NDArray

from distill.data.sample import KeyedSamples, Reader, Sample, Splits

FROM = 20_000  # images from which samples are kept in a file
AT_ONCE = 4096  # samples that are written or made at once
ABSENT = -1

logger = logging.getLogger("bandpass")

ROW = np.dtype(
    [
        ("keys", "u1", (2, 32)),  # sha256 of image and mask
        ("masked", "?"),  # whether there is a mask
        ("size", "<i4", 2),  # height and width
        ("numbers", "<i4", 3),  # of the data set, and of what reads image and mask
        ("begin", "<i8"),  # of the texts in bytes
        ("lengths", "<i4", 4),  # of stem, places of image and mask, group; `ABSENT`: no mask file, no group
    ]
)

CODING = ("utf-8", "surrogatepass")  # of texts, which include file names that are not UTF-8
Read = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class SampleFile:
    """A file without a name, with a token, all texts, then the rows. It is freed with the object that opened it.

    Attributes:
        path: the path by which other processes of this machine find it; Linux only.
        token: its first bytes, because on another machine the path may be another file.
        size: in bytes.
        count: of the samples.
        datasets: names of the data sets.
        readers: functions that read images and masks.
    """

    path: Path
    token: bytes
    size: int
    count: int
    datasets: tuple[str, ...]
    readers: tuple[Read, ...]

    @cached_property
    def text(self) -> NDArray[np.uint8]:
        """All bytes.

        Raises:
            OSError: the file is not there, or not on this machine.
            ValueError: it is another file.
        """
        if not self.path.is_file():  # also not a pipe of another process, which would block
            raise FileNotFoundError(self.path)
        with self.path.open("rb") as stream:
            if stream.read(len(self.token)) != self.token:
                raise ValueError("it is another file")
            return np.memmap(stream, np.uint8, "r", shape=(self.size,)).view(np.ndarray)

    @cached_property
    def rows(self) -> NDArray[np.void]:
        """A row (n,) for each sample."""
        return self.text[self.size - self.count * ROW.itemsize :].view(ROW)

    def __reduce__(self) -> tuple[type[SampleFile], tuple[Any, ...]]:
        """Pickles the description; the other process maps the file itself."""
        return SampleFile, (self.path, self.token, self.size, self.count, self.datasets, self.readers)


@dataclass(frozen=True, eq=False)
class SampleTable(KeyedSamples):
    """Samples in a file from row `start` to `stop`; equal only to itself, not to a tuple of the same samples."""

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
        """A sample, or those of a slice, which stay in the file if they are consecutive."""
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
        """The samples of both, in the file if the others follow directly there."""
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
            ends = pairwise(accumulate((max(0, length) for length in lengths), initial=begin))
            stem, image, mask, group = (file.text[first:last].tobytes().decode(*CODING) for first, last in ends)
            yield Sample(
                dataset=file.datasets[numbers[0]],
                stem=stem,
                key=key,
                mask_key=mask_key,
                size=(height, width),
                group=None if lengths[3] == ABSENT else group,
                read_image=Reader(file.readers[numbers[1]], image, key),
                read_mask=Reader(file.readers[numbers[2]], (height, width) if lengths[2] == ABSENT else mask, mask_key),
            )


def _key_pairs(rows: NDArray[np.void]) -> Iterator[tuple[str, str]]:
    """The keys of image and mask of rows (n,)."""
    text, masked = rows["keys"].tobytes().hex(), rows["masked"].tolist()
    for place, has_mask in zip(range(0, len(text), 128), masked, strict=True):
        yield text[place : place + 64], text[place + 64 : place + 128] if has_mask else ""


def in_reach(splits: Splits) -> bool:
    """Whether samples in another process's file can be read here; if so, they stay readable even if it ends."""
    try:
        return isinstance(splits.train, SampleTable) and len(splits.train.file.rows) > 0
    except (OSError, ValueError):
        return False


def in_file(splits: Splits) -> Splits:
    """The same splits with all samples in a file, if they are many and their pixels are in files too."""
    parts = (splits.train, splits.unlabelled, splits.val, *splits.test.values())
    if (total := sum(map(len, parts))) < FROM or not all(map(has_files, chain(*parts))):
        return splits
    try:
        file = write_samples(chain(*parts))
    except (OSError, ValueError) as error:
        place = tempfile.gettempdir()
        logger.warning(
            "cannot keep a file in %s (%s): %d samples stay in the memory of each process", place, error, total
        )
        return splits
    spans = pairwise(accumulate(map(len, parts), initial=0))
    train, unlabelled, val, *test = (SampleTable(file, start, stop) for start, stop in spans)
    return replace(splits, train=train, unlabelled=unlabelled, val=val, test=dict(zip(splits.test, test, strict=True)))


def has_files(sample: Sample) -> bool:
    """Whether the image of a sample is a file, and its mask is a file too or unknown."""
    image, mask = sample.read_image, sample.read_mask
    return (
        isinstance(image, Reader)
        and isinstance(mask, Reader)
        and isinstance(image.source, str)
        and (isinstance(mask.source, str) or mask.source == sample.size)
    )


def write_samples(samples: Iterable[Sample]) -> SampleFile:
    """Writes samples that all `has_files` into an unlisted file, and maps it.

    Raises:
        OSError: the disk is full, or nothing can be mapped there.
    """
    datasets: dict[str, int] = {}
    readers: dict[int, tuple[int, Read]] = {}  # id -> number and function, which keeps the id
    found: list[NDArray[np.void]] = []
    token = secrets.token_bytes(16)
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as what is returned
    try:
        stream.write(token)
        remaining = iter(samples)
        while some := list(islice(remaining, AT_ONCE)):
            found.append(_write_some(some, stream, datasets, readers))
        for rows in found:
            stream.write(rows.tobytes())
        stream.flush()
        os.fsync(stream.fileno())  # a disk that is full, or out of quota, may say so only now
        text = np.memmap(stream, np.uint8, "r").view(np.ndarray)
    except BaseException:
        stream.close()
        raise
    place = Path(f"/proc/{os.getpid()}/fd/{stream.fileno()}")
    functions = tuple(read for _, read in readers.values())
    file = SampleFile(place, token, len(text), sum(map(len, found)), tuple(datasets), functions)
    vars(file)["text"] = text
    weakref.finalize(file, stream.close)
    return file


def _write_some(
    samples: Sequence[Sample],
    stream: BinaryIO,
    datasets: dict[str, int],
    readers: dict[int, tuple[int, Read]],
) -> NDArray[np.void]:
    """Writes the texts of samples; returns their rows (n,)."""
    rows = np.zeros(len(samples), ROW)
    numbers: list[tuple[int, int, int]] = []
    texts: list[str | None] = []
    for sample in samples:
        image, mask = cast("Reader", sample.read_image), cast("Reader", sample.read_mask)
        dataset = datasets.setdefault(sample.dataset, len(datasets))
        read, _ = readers.setdefault(id(image.read), (len(readers), image.read))
        read_mask, _ = readers.setdefault(id(mask.read), (len(readers), mask.read))
        numbers.append((dataset, read, read_mask))
        texts += (sample.stem, image.source, mask.source if isinstance(mask.source, str) else None, sample.group)
    whole = "".join(text for text in texts if text)
    size_of = len if whole.isascii() else _bytes_of
    rows["keys"] = _digests(text for one in samples for text in (one.key, one.mask_key)).reshape(-1, 2, 32)
    rows["masked"] = [bool(sample.mask_key) for sample in samples]
    rows["size"] = [sample.size for sample in samples]
    rows["numbers"] = numbers
    lengths = [ABSENT if text is None else size_of(text) for text in texts]
    rows["lengths"] = np.reshape(lengths, (-1, 4))
    sizes = rows["lengths"].clip(min=0).sum(axis=1)
    rows["begin"] = stream.tell() + np.cumsum(sizes) - sizes
    stream.write(whole.encode(*CODING))
    return rows


def _bytes_of(text: str) -> int:
    """The number of bytes of a text once encoded."""
    return len(text.encode(*CODING))


def _digests(keys: Iterable[str]) -> NDArray[np.uint8]:
    """The digests of hexadecimal keys, one after the other; zeros for an empty key."""
    return np.frombuffer(bytes.fromhex("".join(key or "0" * 64 for key in keys)), np.uint8)
