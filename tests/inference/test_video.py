"""Videos as recorders leave them: joined ones whose time begins again, and pixels that are not square."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos are read by PyAV")

from published import write_disc, write_student  # noqa: E402

import distill  # noqa: E402
from distill.inference.video_files import VideoWriter, open_video  # noqa: E402


def write_stream(path, *, count=10, rate=10, form="mpegts", level=0, aspect=Fraction(1), turned=0, began=0):
    """A recording whose frames are of a grey that rises from `level` by 4."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream("mpeg4" if form != "mpegts" else "mpeg2video", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.bit_rate = 2_000_000
        for number in range(count):
            image = np.full((48, 64, 3), level + 4 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = began + number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def frames_of(path):
    with open_video(path) as (facts, frames):
        return facts, list(frames)


@pytest.mark.parametrize("form", ["mpegts", "matroska", "mp4"])
def test_times_begin_with_the_first_frame_wherever_the_recorder_s_clock_stood(tmp_path, form):
    facts, frames = frames_of(write_stream(tmp_path / "late", form=form, began=6000))
    np.testing.assert_allclose([seconds for seconds, _ in frames], np.arange(10) / 10, atol=0.02)
    assert abs(facts.frames - 10) <= 1


@pytest.mark.parametrize("rate", [10, 25])
def test_a_recording_joined_from_two_keeps_order_and_duration(tmp_path, rate):
    halves = [write_stream(tmp_path / f"{n}.ts", rate=rate, level=100 * n) for n in range(2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(half.read_bytes() for half in halves))
    _, frames = frames_of(joined)
    seconds = np.array([one for one, _ in frames])
    assert len(frames) >= 19
    np.testing.assert_allclose(np.diff(seconds), 1 / rate, atol=0.02)
    levels = [image.mean() for _, image in frames]
    assert levels == sorted(levels)


def test_the_written_video_of_a_joined_recording_is_as_long(tmp_path):
    student = write_student(tmp_path / "student")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(write_stream(tmp_path / f"{n}", level=100 * n).read_bytes() for n in range(2)))
    distill.predict(student, joined, out=tmp_path / "out")
    _, frames = frames_of(tmp_path / "out" / "videos" / "joined.mp4")
    assert frames[-1][0] - frames[0][0] == pytest.approx((len(frames) - 1) / 10, abs=0.05)


@pytest.mark.parametrize("aspect", [Fraction(16, 15), Fraction(1, 2), Fraction(1)])
@pytest.mark.parametrize("form", ["mp4", "matroska", "avi"])
def test_pixels_that_are_not_square_stay_so(tmp_path, aspect, form):
    student = write_student(tmp_path / "student")
    video = write_stream(tmp_path / "video.mp4", form=form, aspect=aspect)
    facts, _ = frames_of(video)
    assert facts.pixel_aspect == aspect
    distill.predict(student, video, out=tmp_path / "out")
    with av.open(str(tmp_path / "out" / "videos" / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.sample_aspect_ratio or 1) == aspect
        assert (stream.width, stream.height) == (64, 48)


def test_the_aspect_of_a_turned_video_is_turned(tmp_path):
    video = write_stream(tmp_path / "video.mp4", form="mp4", aspect=Fraction(2))
    data = bytearray(video.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # the matrix of the track: a quarter of a turn
    data[place : place + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    )
    video.write_bytes(data)
    facts, frames = frames_of(video)
    assert frames[0][1].shape == (64, 48, 3)
    assert facts.pixel_aspect == Fraction(1, 2)


def test_times_that_do_not_rise_are_moved_a_little(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", rate=Fraction(10)) as writer:
        for _ in range(3):
            writer.write(write_disc(tmp_path / "d.png", 0, (48, 64)), 0.0)
    assert len(frames_of(tmp_path / "v.mp4")[1]) == 3


def test_a_recording_that_counts_no_frames_and_was_cut_off_is_told(tmp_path):
    student = write_student(tmp_path / "student")
    whole = write_stream(tmp_path / "whole.mkv", form="matroska", count=40)
    assert distill.predict(student, whole, out=tmp_path / "whole").failures == []
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    (failure,) = distill.predict(student, cut, out=tmp_path / "cut").failures
    assert re.search(r"cut\.mkv cannot be read \(it ends at frame \d+ of the 40 that it declares", failure)
