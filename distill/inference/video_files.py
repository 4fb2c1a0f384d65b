"""Reading and writing video files of any length: upright frames with their times."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

ENCODERS = {  # the first one in the installed PyAV is used; options keep the contour sharp
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libopenh264": {"b": "8M"},
    "mpeg4": {"qscale": "3"},
}
TICKS = 60_000  # a second: whole for 24, 25, 30, 50 and 60 frames a second, and for 30 * 1000 / 1001
BT601, LIMITED = 6, 1  # FFmpeg's numbers of the matrix and the range by which RGB becomes yuv420p
DEFAULT_RATE = Fraction(25)  # if a file states none
SQUARE = Fraction(1)


def require_library() -> None:
    """Requires PyAV.

    Raises:
        ValueError: it is not installed; the message says what to install.
    """
    if find_spec("av") is None:
        raise ValueError("videos need PyAV, which is not installed; pip install 'av>=17'")


@dataclass(frozen=True)
class Facts:
    """Properties of a video file, by its header.

    Attributes:
        rate: frames per second.
        frames: number of frames, by its own count or else its length; 0 if it states neither.
        counted: whether that is its own count.
        pixel_aspect: width / height of a pixel of its upright frames.
    """

    rate: Fraction
    frames: int
    counted: bool
    pixel_aspect: Fraction


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[tuple[Facts, Iterator[tuple[float, np.ndarray]]]]:
    """Opens a video: its properties, and its frames as (seconds from the start, RGB uint8 (H, W, 3)).

    Frames are upright: the rotation in a phone's metadata is applied. They are decoded on demand, so memory does not
    depend on the length.

    Raises:
        ValueError: the file is not a video, or is damaged; also while frames are read.
    """
    import av

    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise ValueError(error.strerror) from error
    with container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        decoded = _decode(container, stream)
        first = next(decoded, None)  # only a frame tells its rotation
        facts = _facts(container, stream, turned=first is not None and _quarters(first) % 2 == 1)
        frames = decoded if first is None else itertools.chain([first], decoded)
        yield facts, _upright(frames, rate=facts.rate)


def _facts(container: Any, stream: Any, *, turned: bool) -> Facts:  # noqa: ANN401
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    length = (container.duration or 0) / 1_000_000  # FFmpeg counts it in microseconds
    if "matroska" in container.format.name:  # it states the end, on a clock that may not start at 0
        length -= (container.start_time or 0) / 1_000_000
    frames = stream.frames
    if "mp4" in container.format.name and stream.duration:  # a trimmed file may hold more frames than it shows
        frames = min(frames, round(stream.duration * stream.time_base * rate))
    aspect = Fraction(stream.sample_aspect_ratio or SQUARE)
    return Facts(
        Fraction(rate),
        frames or round(length * rate),
        counted=frames > 0,
        pixel_aspect=1 / aspect if turned else aspect,
    )


def _decode(container: Any, stream: Any) -> Iterator[Any]:  # noqa: ANN401
    import av

    decoded = container.decode(stream)
    for number in itertools.count():
        try:
            frame = next(decoded, None)
        except av.FFmpegError as error:
            raise ValueError(f"after {number} frames: {error.strerror}") from error
        if frame is None:
            return
        yield frame


def _upright(decoded: Iterable[Any], *, rate: Fraction) -> Iterator[tuple[float, np.ndarray]]:
    """Frames, uint8 (H, W, 3), with the seconds since the first.

    If times start again, as in a recording joined from two, they continue.
    """
    offset, last = None, float("-inf")
    for number, frame in enumerate(decoded):
        if offset is None:
            offset = -(frame.time or 0.0)
        seconds = float(number / rate) if frame.time is None else frame.time + offset
        if seconds < last:
            offset += last + float(1 / rate) - seconds
            seconds = last + float(1 / rate)
        last = seconds
        yield seconds, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), _quarters(frame)))


def _quarters(frame: Any) -> int:  # noqa: ANN401
    """The quarter turns to the left that make a frame upright."""
    return round(frame.rotation / 90)


class VideoWriter:
    """Writes frames of one size into an MP4 at the times they are given.

    The file at `path` grows with each frame; it is playable once the context ends. An odd side is made even by
    repeating its last row or column, because colours are coded for pairs of pixels.

    Args:
        path: of the file, whatever its suffix.
        rate: frames per second, as the file states it.
        pixel_aspect: width / height of a pixel.
    """

    def __init__(self, path: Path, *, rate: Fraction, pixel_aspect: Fraction = SQUARE) -> None:
        import av

        self.encoder = next(name for name in ENCODERS if name in av.codecs_available)
        self.container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        stream = self.container.add_stream(self.encoder, rate=rate, options=ENCODERS[self.encoder])
        assert isinstance(stream, av.VideoStream)
        self.stream = stream
        self.stream.codec_context.time_base = Fraction(1, TICKS)
        self.stream.codec_context.sample_aspect_ratio = pixel_aspect
        self.stream.pix_fmt = "yuv420p"
        # stated, because players assume BT.709 for large videos
        self.stream.codec_context.colorspace, self.stream.codec_context.color_range = BT601, LIMITED
        self.tick = -1

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Adds a frame, RGB uint8 (H, W, 3), shown from `seconds` on; times that do not rise are shifted a little."""
        import av

        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self.tick < 0:
            self.stream.height, self.stream.width = image.shape[:2]
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        self.tick = max(self.tick + 1, round(seconds * TICKS))
        frame.pts, frame.time_base = self.tick, Fraction(1, TICKS)
        self.container.mux(self.stream.encode(frame))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        if kind is None and self.tick >= 0:
            self.container.mux(self.stream.encode())
        self.container.close()
