"""Memory of an extraction: it stays as it is after the first images, however many follow."""

from __future__ import annotations

import logging
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import small_extraction
import torch
from small_extraction import CellTeacher, extraction_job

from distill.extraction.extract import extract

PAGE = 4096  # bytes


def resident() -> float:
    """MB of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def memory_at(folder, monkeypatch, *, images, first):
    """MB in memory when `first` and when all images have passed, over an extraction of so many images of one view."""
    teacher, found = CellTeacher(), {}
    forward = teacher.forward

    def watched(pixels, valid):
        maps = forward(pixels, valid)
        if first not in found and teacher.seen >= first:
            found[first] = resident()
        return maps

    teacher.forward = watched
    logging.getLogger("bandpass").setLevel(logging.CRITICAL)
    monkeypatch.setattr(small_extraction, "VIEWS", ["identity"])
    monkeypatch.setattr(import_module("distill.extraction.extract"), "load_teacher", lambda *_: teacher)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    extract(extraction_job(folder, images=images))
    torch.set_num_threads(threads)
    logging.getLogger("bandpass").setLevel(logging.INFO)
    return found[first], resident()


def test_memory_does_not_grow_with_the_images_that_pass(tmp_path, monkeypatch):
    before, after = memory_at(tmp_path, monkeypatch, images=2000, first=500)
    assert after - before < 30


@pytest.mark.study
@pytest.mark.timeout(7200)
def test_memory_does_not_grow_over_a_hundred_thousand_images(tmp_path, monkeypatch, capsys):
    began = time.monotonic()
    before, after = memory_at(tmp_path, monkeypatch, images=100_000, first=10_000)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{before:.0f} MB after 10,000 images, {after:.0f} MB after 100,000; {time.monotonic() - began:.0f} s\n"
        )
    assert after - before < 60
