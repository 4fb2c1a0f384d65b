"""File names of any bytes: what reaches the terminal and the tables, and what a kill leaves behind."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from published import write_disc, write_student

import distill
from distill.inference.output_dir import Table, cell, printable, whole_file
from distill.inference.video_files import VideoWriter
from distill.run import main

ESCAPES = "disc\x1b]0;owned\x07.png"
RAW = os.fsdecode(b"caf\xe9.png")  # Latin-1
NAMES = (
    ESCAPES,
    RAW,
    "=cmd.png",
    "+1.png",
    "-2.png",
    "@sum.png",
    "new\nline.png",
    "ordinary, é.png",
    "l" * 240 + ".png",
)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("BANDPASS_THREADS", "1")


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return write_student(tmp_path_factory.mktemp("published"))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    write_disc(folder / "plain.png", 0)
    for name in NAMES:
        (folder / name).write_bytes((folder / "plain.png").read_bytes())
    return folder


def test_names_of_any_bytes_are_predicted_tabled_and_skipped_when_they_are_finished(student, images, tmp_path, capsys):
    (images / "broken\x1b[31m.png").write_bytes(b"no picture")
    (images / os.fsdecode(b"bro\xffken.png")).write_bytes(b"no picture")
    out = tmp_path / "out"
    words = ["predict", f"student={student}", f"images={images}", f"out={out}"]
    assert main(words) == 1
    told = capsys.readouterr()
    assert "10 images: 10 with a finding" in told.out
    assert r"broken\x1b[31m.png cannot be read" in told.out
    assert r"bro\xffken.png cannot be read" in told.out
    assert "\x1b" not in told.out + told.err and "\x07" not in told.out + told.err
    text = (out / "areas.csv").read_text(encoding="utf-8")
    rows = [row["image"] for row in csv.DictReader(text.splitlines())]
    assert len(rows) == 10
    assert {"'=cmd.png", "'+1.png", "'-2.png", "'@sum.png", r"caf\xe9.png", r"new\nline.png"} < set(rows)
    assert {"ordinary, é.png", r"disc\x1b]0;owned\x07.png"} < set(rows)
    assert (out / "masks" / RAW).is_file()
    again = distill.predict(student, images, out=out)
    assert (again.pictures, again.kept) == (10, 10)


def test_videos_of_any_name_are_predicted(student, tmp_path):
    pytest.importorskip("av", reason="videos are read by PyAV")
    still = write_disc(tmp_path / "videos" / "still.png", 0, (48, 64))
    (tmp_path / "videos" / "still.png").unlink()
    with VideoWriter(tmp_path / "videos" / os.fsdecode(b"=caf\xe9\x1b.mp4"), rate=Fraction(10)) as writer:
        for number in range(2):
            writer.write(still, number / 10)
    summary = distill.predict(student, tmp_path / "videos", out=tmp_path / "out")
    assert summary.lines()[0].startswith(r"=caf\xe9\x1b.mp4: 2 frames")
    assert r"'=caf\xe9\x1b.mp4" in (tmp_path / "out" / "videos.csv").read_text(encoding="utf-8")
    assert distill.predict(student, tmp_path / "videos", out=tmp_path / "out").videos.popitem()[1] is None


def test_a_run_whose_folder_has_such_a_name_says_where_its_results_are(student, images, tmp_path, capsys):
    out = tmp_path / os.fsdecode(b"o\xfft\x1b")
    assert main(["predict", f"student={student}", f"images={images / 'plain.png'}", f"out={out}"]) == 0
    assert r"o\xfft\x1b" in capsys.readouterr().out
    assert (out / "masks" / "plain.png").is_file()


def test_ordinary_names_stay_as_they_are():
    for name in ("a b.png", "é漢字.png", "sub/a-b=c.png", "🙂.png"):
        assert printable(name) == cell(name) == name


def test_a_table_finds_its_rows_by_the_names_of_the_files(tmp_path):
    table = Table(tmp_path / "t.csv", ("image", "key"))
    table.put("=a.png", [{"key": "1"}])
    table.save()
    assert (tmp_path / "t.csv").read_text() == "image,key\n'=a.png,1\n"
    assert Table(tmp_path / "t.csv", ("image", "key")).of("=a.png") == [{"image": "'=a.png", "key": "1"}]


def left_in(out):
    return list(out.rglob(".writing-*"))


def test_what_a_kill_leaves_is_swept_at_the_next_start(student, images, tmp_path):
    out = tmp_path / "out"
    code = (
        "import distill, time\n"
        "from pathlib import Path\n"
        "write = Path.write_bytes\n"
        "def slow(path, data):\n"
        "    written = write(path, data[: len(data) // 2])\n"
        "    if '/masks/' in str(path): time.sleep(600)\n"
        "    return written\n"
        "Path.write_bytes = slow\n"
        f"distill.predict({str(student)!r}, {str(images)!r}, out={str(out)!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as process:
        until = time.monotonic() + 120
        while not left_in(out) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert left_in(out)
    (out / ".writing-of-a-table").write_bytes(b"half")
    assert distill.predict(student, images, out=out).pictures == 10
    assert not left_in(out)


def test_a_result_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="full"), whole_file(tmp_path / "masks" / "a.png") as file:
        file.write_bytes(b"half")
        raise OSError("full")
    assert not list((tmp_path / "masks").iterdir())


def test_a_damaged_record_is_told(student, images, tmp_path):
    out = tmp_path / "out"
    distill.predict(student, images / "plain.png", out=out)
    (out / "predict.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"predict\.json is damaged .*; remove its folder, and its results are made again"
    ):
        distill.predict(student, images / "plain.png", out=out)
