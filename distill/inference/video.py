"""Prediction of videos: the video with the mask drawn in, and a table of its frames."""

from __future__ import annotations

import contextlib
import csv
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.inference.images import Options
from distill.inference.inputs import Input
from distill.inference.output_dir import VIDEOS, Table, place, whole_file
from distill.inference.overlay import draw_overlay
from distill.inference.regions import COLUMNS, measure_regions
from distill.inference.segmenter import Segmenter
from distill.inference.video_files import VideoWriter, open_video
from distill.runs.fingerprint import digest_file
from distill.runtime.issues import printable
from distill.runtime.progress import Progress

FIGURES = ("frames", "found", "rate", "done_per_second", "p50_ms", "p95_ms")
TABLE_COLUMNS = ("video", "key", *FIGURES)
FRAME_COLUMNS = ("frame", "seconds", *COLUMNS, "milliseconds")
WHOLE = 0.98  # of the frames that a video declares: encoders may be a few off, a truncated file lacks more
LATENCIES_KEPT = 10_000  # the last ones, so that memory does not grow with a video


@dataclass(frozen=True)
class VideoResult:
    """The figures of one video.

    Attributes:
        frames: how many it holds.
        found: how many of them have a finding.
        rate: frames per second of the video.
        done_per_second: frames per second of processing, with reading, drawing and writing.
        p50_ms: median milliseconds of a frame in the network, pixels in memory to probability in memory.
        p95_ms: 95th percentile of the same.
    """

    frames: int
    found: int
    rate: float
    done_per_second: float
    p50_ms: float
    p95_ms: float

    def line(self) -> str:
        """The figures in words."""
        said = "in real time" if self.done_per_second >= self.rate else "slower than it plays"
        return (
            f"{self.frames} frames at {self.rate:.4g}/s, {self.found} with a finding; done at "
            f"{self.done_per_second:.1f}/s ({said}), in the network p50 {self.p50_ms:.1f} ms, p95 {self.p95_ms:.1f} ms"
        )


def percentiles(seconds: Iterable[float]) -> tuple[float, float]:
    """The median and the 95th percentile of durations, in milliseconds."""
    p50, p95 = np.percentile(np.fromiter(seconds, float) * 1000, (50, 95))
    return float(p50), float(p95)


def results_of(one: Input, *, out: Path) -> tuple[Path, Path]:
    """The files of a video's results: overlays, and a table of frames."""
    return place(out, VIDEOS, one.stem, ".mp4"), place(out, VIDEOS, one.stem, ".csv")


def is_done(one: Input, table: Table, *, out: Path) -> bool:
    """Whether the results of a video exist, for the same bytes; not if it can no longer be read."""
    rows = table.of(one.name)
    if not rows or not all(path.is_file() for path in results_of(one, out=out)):
        return False
    try:
        return rows[0]["key"] == digest_file(one.path)
    except OSError:
        return False


def predict_video(segmenter: Segmenter, options: Options, one: Input, *, out: Path, table: Table) -> VideoResult:
    """Writes `videos/NAME.mp4` and `videos/NAME.csv`, which appear once complete, and the row of the video.

    Raises:
        ValueError: the file is not a video, damaged or truncated; then no results stay.
    """
    written, frames = results_of(one, out=out)
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
            mask = options.thresholds.mask(probability)
            writer.write(draw_overlay(image, mask), seconds)
            found += bool(mask.any())
            said = {"frame": number, "seconds": f"{seconds:.3f}", "milliseconds": f"{spent * 1000:.1f}"}
            rows.writerows({**said, **regions.row()} for regions in measure_regions(mask, probability))
            bar.update(note=f"{found} with a finding")
    if not number:
        raise ValueError("it holds no frame")
    at_end = number if facts.counted else round(seconds * facts.rate) + 1  # frames may be fewer than a rate says
    if at_end < WHOLE * facts.frames:
        raise ValueError(
            f"it ends at frame {at_end} of the {facts.frames} that it declares; copy it again from its origin, or "
            "correct the count with `ffmpeg -i OLD -c copy NEW`"
        )
    p50, p95 = percentiles(latencies)
    return VideoResult(number, found, float(facts.rate), number / (time.monotonic() - began), p50, p95)
