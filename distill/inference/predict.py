"""Masks, overlays and figures of images and videos by a published student."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cache
from distill.inference.images import DARK, ImagePredictor, Options, Outcome, predict_images
from distill.inference.inputs import Input, find_inputs
from distill.inference.output_dir import VIDEO_TABLE, Table, prepare, remove_results, require_own
from distill.inference.overlay import palette
from distill.inference.segmenter import Segmenter, open_segmenter, settle_thresholds
from distill.inference.video import TABLE_COLUMNS as VIDEO_COLUMNS
from distill.inference.video import VideoResult, is_done, percentiles, predict_video, results_of
from distill.inference.video_files import require_library
from distill.runtime.issues import printable, several
from distill.runtime.progress import progress
from distill.runtime.threads import usable_cores, use_all_cores
from students.catalogue import place_of

KEPT = 20  # failures that are listed at the end; the others are counted
NAMED = 5  # skipped files, likewise

logger = logging.getLogger("bandpass")


@dataclass
class Summary:
    """The results of a prediction.

    Attributes:
        out: the folder of results.
        pictures: how many were made or found complete.
        found: how many of them have a finding.
        kept: how many of them were complete already.
        seconds: how long the others took, with reading and writing.
        latency: median and 95th percentile of the network alone, in milliseconds; None if it did not run.
        dark: how many of the others are nearly black.
        videos: the figures of each video, by name; None if it was complete already.
        failures: a sentence for each file that could not be read.
    """

    out: Path
    pictures: int = 0
    found: int = 0
    kept: int = 0
    seconds: float = 0.0
    latency: tuple[float, float] | None = None
    dark: int = 0
    videos: dict[str, VideoResult | None] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The summary as printable lines: one for the pictures, one for each video, one for each failure."""
        said = [_picture_line(self)] if self.pictures else []
        if self.dark:
            said.append(
                f"{several(self.dark, 'image')} without a level over {DARK - 1} of 255, nearly black: masks mean "
                "little; 12-bit levels that are stored as 16 bits must be multiplied by 16"
            )
        said += [f"{name}: {video.line() if video else 'complete already'}" for name, video in self.videos.items()]
        if self.failures:
            said += [f"left out {several(len(self.failures), 'file')}:", *(f"  {one}" for one in self.failures[:KEPT])]
            said += [f"  and {len(self.failures) - KEPT} more"] if len(self.failures) > KEPT else []
        return [printable(line) for line in (*said, f"results are in {self.out}")]


def _picture_line(summary: Summary) -> str:
    without, made = summary.pictures - summary.found, summary.pictures - summary.kept
    parts = [f"{several(summary.pictures, 'image')}: {summary.found} with a finding, {without} without"]
    if made:
        parts.append(f"{made / max(summary.seconds, 1e-9):.1f} images/s")
    if summary.latency:
        parts.append(f"in the network p50 {summary.latency[0]:.1f} ms, p95 {summary.latency[1]:.1f} ms")
    if summary.kept:
        parts.append(f"{summary.kept} of them complete already")
    return "; ".join(parts)


def predict(
    student: str | Path,
    images: str | Path,
    *,
    out: str | Path,
    threshold: float | None = None,
    region_threshold: float | None = None,
    flips: bool = False,
    probabilities: bool = False,
    trust: str | None = None,
) -> Summary:
    r"""Writes masks, overlays and figures of images and videos; what is finished in `out` is skipped.

    Tables name a file by its path within `images`: control characters and bytes that are not UTF-8 become escapes
    (`\x1b`, `\xff`), and a name that begins with `=`, `+`, `-` or `@` gets an apostrophe, so that no spreadsheet
    computes it.

    Args:
        student: a published folder, a hub id, or a `model.onnx`.
        images: a picture, a folder, a pattern or a video.
        out: the folder of results. Results of these images by another student or other thresholds are removed first.
        threshold: probability from which a pixel is foreground; the student's own if not given.
        region_threshold: probability that a connected region must reach, or else it is dropped; likewise.
        flips: average the probability over the image and its mirror images.
        probabilities: also write the probabilities, as grey PNG.
        trust: your own student class, `my_nets:Net`, whose code may run.

    Returns:
        Counts and times; its `failures` name unreadable files.

    Raises:
        FileNotFoundError: the student or the images do not exist.
        ValueError: the student is damaged or not Bandpass's, there is no picture, or `out` holds other files, or
            results of other images by another student or other thresholds.
        BlockingIOError: another process works in `out`.
    """
    out = Path(out).expanduser()
    require_own(out)
    inputs, passed = find_inputs(str(images), out=out)
    if any(one.video for one in inputs):
        require_library()
    use_all_cores()
    segmenter = open_segmenter(student, trust=trust)
    options = Options(settle_thresholds(segmenter, threshold, region_threshold), flips, probabilities)
    if passed:
        logger.info("skipping %s", printable(named(passed)))
    with cache.lock(out, wait=False):
        stems = {one.stem for one in inputs}
        if said := prepare(out, settings_of(segmenter, options), about=about(segmenter), stems=stems):
            logger.info(printable(said))
        logger.info(printable(introduction(segmenter, options)))
        if segmenter.place.startswith("torch on cpu"):
            logger.info("faster on a CPU: %s", printable(by_onnx(student)))
        summary = Summary(out)
        pictures = [one for one in inputs if not one.video]
        if pictures:
            add_pictures(summary, ImagePredictor(segmenter, options, out=out), pictures)
        add_videos(summary, segmenter, options, [one for one in inputs if one.video])
    return summary


def by_onnx(student: str | Path) -> str:
    """The words that run a published student from its ONNX file, with the command that makes it if there is none."""
    made = Path(place_of(student)) / "model.onnx"
    return (
        f"student={shlex.quote(str(made))}"
        if made.is_file()
        else f"distill publish student={shlex.quote(str(student))} onnx=model.onnx, then student=model.onnx"
    )


def named(passed: Sequence[str]) -> str:
    """Skipped files and folders in words: the first few names, and how many more."""
    more = f" and {len(passed) - NAMED} more" if len(passed) > NAMED else ""
    folders = "; folders inside it are searched if a pattern asks for it, as 'DIR/**/*.*'"
    inner = any(name.endswith("/") for name in passed)
    return f"{', '.join(passed[:NAMED])}{more}: by suffix neither picture nor video{folders if inner else ''}"


def settings_of(segmenter: Segmenter, options: Options) -> dict[str, Any]:
    """The settings that decide the pixels of a mask; results with other settings are done again."""
    one = segmenter.classes == 1
    return {
        "format": 2,
        "student": segmenter.digest,
        "threshold": options.thresholds.pixel if one else None,
        "region_threshold": (options.thresholds.region or None) if one else None,
        "flips": options.flips,
    }


def about(segmenter: Segmenter) -> dict[str, Any]:
    """Further entries of the record."""
    meaning = "255 is foreground" if segmenter.classes == 1 else "levels are class numbers, 0 is background"
    return {
        "name": printable(segmenter.name),
        "classes": segmenter.classes,
        "masks": f"{meaning}; same size as the upright picture",
        "palette": palette(segmenter.classes),
        "boxes": "left, top, right, bottom in pixels, right and bottom exclusive",
    }


def introduction(segmenter: Segmenter, options: Options) -> str:
    """The first line: the student, where it runs, and how."""
    rule = str(options.thresholds) if segmenter.classes == 1 else f"{segmenter.classes} classes"
    return f"{segmenter.name} by {segmenter.place}, {rule}{', mean over four flips' if options.flips else ''}"


def add_pictures(summary: Summary, predictor: ImagePredictor, pictures: Sequence[Input]) -> None:
    """Writes the results of pictures, and adds their figures."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    work = predict_images(predictor, pictures, threads=usable_cores() + 1)
    with closing(work):  # saves the table even if this is interrupted
        for outcome in progress(work, what="predict", total=len(pictures)):
            if outcome.failure:
                summary.failures.append(outcome.failure)
            else:
                outcomes.append(outcome)
    spent = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
    summary.pictures, summary.kept = len(outcomes), len(outcomes) - len(spent)
    summary.found = sum(outcome.found for outcome in outcomes)
    summary.dark = sum(outcome.dark for outcome in outcomes)
    summary.seconds = time.monotonic() - began
    summary.latency = percentiles(spent) if spent else None


def add_videos(summary: Summary, segmenter: Segmenter, options: Options, videos: Sequence[Input]) -> None:
    """Writes the results of videos, and adds their figures."""
    if not videos:
        return
    if options.probabilities:
        logger.info("probabilities=true is for pictures; a video gets overlay and table only")
    table = Table(summary.out / VIDEO_TABLE, VIDEO_COLUMNS)
    for one in videos:
        try:
            done = is_done(one, table, out=summary.out)
            result = None if done else predict_video(segmenter, options, one, out=summary.out, table=table)
            summary.videos[one.name] = result
        except ValueError as error:  # noqa: PERF203 - a video takes minutes
            remove_results(results_of(one, out=summary.out), table, name=one.name)
            table.save()
            summary.failures.append(f"{one.path} cannot be read ({error})")
