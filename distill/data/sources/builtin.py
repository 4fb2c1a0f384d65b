"""The built-in data set: frames from the generator, rendered when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from distill.config.schema import DataRecipe
from distill.data.mask_classes import Reading
from distill.data.sample import Sample, Splits
from distill.data.synthetic.generator import VERSION, render

NAME = "builtin"
SPLITS = ("train", "val", "test")
MEMORY = 256 * 2**20  # bytes of rendered frames kept in each process: 4096 of 128 x 128


def open_builtin(data: DataRecipe, *, home: Path, reading: Reading) -> Splits:
    """The generated data set; it neither reads nor writes a file.

    The key of a frame is the sha256 over what decides its pixels: the generator's identity, and the frame's seed,
    split, number and size. Keys of other data are over the file's bytes, but two hundred thousand frames would have to
    be rendered only to name them. Each split draws from a stream of its own, so that no frame is in two.

    Args:
        data: `images` says how many frames each split has, `size` their height and width, `seed` the streams.
        home: Unused; every data set is opened alike.
        reading: of one class.

    Raises:
        ValueError: several classes are asked for.
    """
    if reading.several:
        raise ValueError(
            f"student.classes is {reading.classes}, but generated frames have one class; take your own images by "
            f"data.name=folder data.root=DIR"
        )
    identity = generator_identity()
    train, val, test = (_split(data, split, identity) for split in SPLITS)
    return Splits(train=train, val=val, test={NAME: test})


def read_image(stream: int, index: int, size: tuple[int, int]) -> np.ndarray:
    """The frame, uint8 (H, W, 3) RGB, from memory if it was read lately."""
    return _frames(size)(stream, index)[0].copy()


def read_mask(stream: int, index: int, size: tuple[int, int]) -> np.ndarray:
    """The frame's mask, uint8 (H, W) of 0 and 1, from memory if it was read lately."""
    return _frames(size)(stream, index)[1].copy()


@lru_cache(maxsize=1)
def generator_identity() -> str:
    """A name for what the generator draws: its version, and a digest of eight probe frames.

    Machines round sums and exponentials differently in the last bit, so that a few pixels differ by one grey level; the
    keys must not. The digest is therefore taken over the frames' mean colours, rounded.
    """
    steps = np.rint(probe()).astype("<i2")
    return f"bandpass generator {VERSION} {hashlib.sha256(steps.tobytes()).hexdigest()[:16]}"


def probe() -> np.ndarray:
    """Mean colours of eight small frames, (8, 3), in steps of two grey levels."""
    frames = np.stack([render(0, index, size=(64, 80))[0] for index in range(8)])
    return frames.mean((1, 2)) / 2


def _split(data: DataRecipe, split: str, identity: str) -> tuple[Sample, ...]:
    size = (int(data.size[0]), int(data.size[1]))
    stream = int(np.random.SeedSequence([data.seed, SPLITS.index(split)]).generate_state(1, np.uint64)[0])
    samples = []
    for index in range(data.images[split]):
        of_frame = f"{identity} seed {data.seed} {split} {index} {size[0]}x{size[1]}"
        samples.append(
            Sample(
                dataset=NAME,
                stem=f"{split}-{index:06d}",
                key=hashlib.sha256(f"{of_frame} image".encode()).hexdigest(),
                mask_key=hashlib.sha256(f"{of_frame} mask".encode()).hexdigest(),
                size=size,
                group=None,
                read_image=partial(read_image, stream, index, size),
                read_mask=partial(read_mask, stream, index, size),
            )
        )
    return tuple(samples)


@lru_cache(maxsize=8)
def _frames(size: tuple[int, int]) -> Callable[[int, int], tuple[np.ndarray, np.ndarray]]:
    """The renderer of images (H, W, 3) and masks (H, W) of one size; it remembers as many frames as `MEMORY` holds."""
    return lru_cache(maxsize=max(1, MEMORY // (4 * size[0] * size[1])))(partial(render, size=size))
