"""Videos through a student: the video with the mask drawn in, and a table of its frames."""

from __future__ import annotations

import contextlib
import csv
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from distill.inference.images import Options
from distill.inference.inputs import Input
from distill.inference.output_dir import VIDEOS, Table, place, printable, whole_file
from distill.inference.overlay import draw_overlay
from distill.inference.regions import COLUMNS, measure_regions
from distill.inference.segmenter import Segmenter
from distill.metrics.overlap import labels
from distill.runs.fingerprint import digest_file
from distill.runtime.progress import Progress

FIGURES = ("frames", "found", "rate", "done_per_second", "p50_ms", "p95_ms")
TABLE_COLUMNS = ("video", "key", *FIGURES)
FRAME_COLUMNS = ("frame", "seconds", *COLUMNS, "milliseconds")
WHOLE = 0.98  # of the frames that a video counts: encoders may be a few off, a file that was cut off lacks more
LATENCIES_KEPT = 10_000  # the last ones, so that memory does not grow with a video
ENCODERS = {  # the first that the installed PyAV has; options for a contour that stays sharp
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libopenh264": {"b": "8M"},
    "mpeg4": {"qscale": "3"},
}
TICKS = 60_000  # a second: whole for 24, 25, 30, 50 and 60 frames a second, and for 30 * 1000 / 1001
BT601, LIMITED = 6, 1  # FFmpeg's numbers of the matrix and the range by which RGB becomes yuv420p
DEFAULT_RATE = Fraction(25)  # where a file states none
SQUARE = Fraction(1)


@dataclass(frozen=True)
class VideoResult:
    """The figures of one video.

    Attributes:
        frames: how many it holds.
        found: how many of them have a finding.
        rate: frames a second of the video.
        done_per_second: frames a second in the making, with reading, drawing and writing.
        p50_ms: median milliseconds of a frame in the network, pixels in memory to probability in memory.
        p95_ms: what 95 of 100 frames stay under.
    """

    frames: int
    found: int
    rate: float
    done_per_second: float
    p50_ms: float
    p95_ms: float

    def line(self) -> str:
        """In words."""
        said = "in real time" if self.done_per_second >= self.rate else "slower than it plays"
        return (
            f"{self.frames} frames at {self.rate:.4g}/s, {self.found} with a finding; done at "
            f"{self.done_per_second:.1f}/s ({said}), in the network p50 {self.p50_ms:.1f} ms, p95 {self.p95_ms:.1f} ms"
        )


def percentiles(seconds: Iterable[float]) -> tuple[float, float]:
    """The median and the 95th percentile of durations, in milliseconds."""
    p50, p95 = np.percentile(np.fromiter(seconds, float) * 1000, (50, 95))
    return float(p50), float(p95)


def is_done(one: Input, table: Table, *, out: Path) -> bool:
    """Whether the results of a video are there, and of these bytes."""
    rows = table.of(one.name)
    there = all(place(out, VIDEOS, one.stem, suffix).is_file() for suffix in (".mp4", ".csv"))
    return there and bool(rows) and rows[0]["key"] == digest_file(one.path)


def predict_video(segmenter: Segmenter, options: Options, one: Input, *, out: Path, table: Table) -> VideoResult:
    """Writes `videos/NAME.mp4` and `videos/NAME.csv`, which appear when they are whole, and the row of the video.

    Raises:
        ValueError: the file is no video, damaged or cut off; then nothing of it is left.
    """
    written, frames = (place(out, VIDEOS, one.stem, suffix) for suffix in (".mp4", ".csv"))
    with whole_file(written) as video_file, whole_file(frames) as frame_file:
        result = _predict_frames(segmenter, options, one, video_file=video_file, frame_file=frame_file)
    figures = {name: round(getattr(result, name), 3) for name in FIGURES}
    table.put(one.name, [{"key": digest_file(one.path), **figures}])
    table.save()
    return result


def _predict_frames(
    segmenter: Segmenter, options: Options, one: Input, *, video_file: Path, frame_file: Path
) -> VideoResult:
    began, found, number = time.monotonic(), 0, 0
    latencies: deque[float] = deque(maxlen=LATENCIES_KEPT)
    with contextlib.ExitStack() as stack:
        facts, frames = stack.enter_context(open_video(one.path))
        writer = stack.enter_context(VideoWriter(video_file, rate=facts.rate, pixel_aspect=facts.pixel_aspect))
        rows = csv.DictWriter(
            stack.enter_context(frame_file.open("w", encoding="utf-8", newline="")), FRAME_COLUMNS, lineterminator="\n"
        )
        rows.writeheader()
        title = printable(one.name)
        bar = stack.enter_context(Progress(title, total=facts.frames, unit="frames", shown=facts.frames > 0))
        for number, (seconds, image) in enumerate(frames, start=1):
            probability, spent = segmenter.timed(image, flips=options.flips)
            latencies.append(spent)
            mask = labels(probability, threshold=options.threshold)
            writer.write(draw_overlay(image, mask), seconds)
            found += bool(mask.any())
            said = {"frame": number, "seconds": f"{seconds:.3f}", "milliseconds": f"{spent * 1000:.1f}"}
            rows.writerows({**said, **regions.row()} for regions in measure_regions(mask, probability))
            bar.update(note=f"{found} with a finding")
    if not number:
        raise ValueError("it holds no frame")
    if facts.counted and number < WHOLE * facts.frames:
        raise ValueError(
            f"it holds {number} of the {facts.frames} frames that it declares; copy it again from its origin, or let "
            "`ffmpeg -i OLD -c copy NEW` count those that are there"
        )
    p50, p95 = percentiles(latencies)
    return VideoResult(number, found, float(facts.rate), number / (time.monotonic() - began), p50, p95)


def require_library() -> None:
    """Requires PyAV.

    Raises:
        ValueError: it is not installed; the message says what to install.
    """
    if find_spec("av") is None:
        raise ValueError("video is read and written by PyAV, which is not installed; pip install 'av>=17'")


@dataclass(frozen=True)
class Facts:
    """Properties of a video file, by its header.

    Attributes:
        rate: frames a second.
        frames: how many, by its own count or else its length; 0 where it states neither.
        counted: whether that is its own count.
        pixel_aspect: width by height of a pixel of its upright frames.
    """

    rate: Fraction
    frames: int
    counted: bool
    pixel_aspect: Fraction


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[tuple[Facts, Iterator[tuple[float, np.ndarray]]]]:
    """Opens a video: its properties, and its frames as (seconds from the start, RGB uint8 (H, W, 3)).

    Frames are upright: the rotation that a phone writes beside them is applied. They are decoded as they are asked
    for, so that memory does not depend on the length.

    Raises:
        ValueError: the file is no video, or damaged; also while frames are read.
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
        first = next(decoded, None)  # which alone tells how it is turned
        facts = _facts(container, stream, turned=first is not None and _quarters(first) % 2 == 1)
        frames = decoded if first is None else itertools.chain([first], decoded)
        yield facts, _upright(frames, rate=facts.rate)


def _facts(container: Any, stream: Any, *, turned: bool) -> Facts:  # noqa: ANN401
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    length = (container.duration or 0) / 1_000_000  # FFmpeg counts it in microseconds
    frames = stream.frames
    if "mp4" in container.format.name and stream.duration:  # one that was trimmed may hold more than it shows
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
    """Frames, uint8 (H, W, 3), with their times, which go on where those of a recording joined from two begin again."""
    offset, last = 0.0, float("-inf")
    for number, frame in enumerate(decoded):
        seconds = float(number / rate) if frame.time is None else frame.time + offset
        if seconds < last:
            offset += last + float(1 / rate) - seconds
            seconds = last + float(1 / rate)
        last = seconds
        yield seconds, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), _quarters(frame)))


def _quarters(frame: Any) -> int:  # noqa: ANN401
    """By how many quarters of a turn a frame must be turned to the left to stand upright."""
    return round(frame.rotation / 90)


class VideoWriter:
    """Writes frames of one size into an MP4 at the times they are given.

    The file appears at `path` as frames come in; it is playable once the context is left. An odd side is made even by
    repeating its last row or column, as the coding of colours in pairs of pixels wants it.

    Args:
        path: of the file, whatever its suffix.
        rate: frames a second, as the file states it.
        pixel_aspect: width by height of a pixel.
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
        # said, since players take large videos without a word for BT.709
        self.stream.codec_context.colorspace, self.stream.codec_context.color_range = BT601, LIMITED
        self.tick = -1

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Adds a frame, RGB uint8 (H, W, 3), shown from `seconds` on; times that do not rise are moved a little."""
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
