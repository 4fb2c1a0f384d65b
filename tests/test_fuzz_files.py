"""Files that nobody means (split files, images, masks, manifests, published students): documented errors, or a value.

The caches themselves are in tests/cache/test_hostile_caches.py, the words of recipes in tests/config/test_fuzz.py.
"""

from __future__ import annotations

import io
import json
import logging
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from altered import damaged, edited
from PIL import Image
from published import write_student

import students
from cache.manifest import Manifest
from distill.config.schema import DataRecipe
from distill.data.image_io import as_levels, as_rgb, decode, why_unreadable
from distill.data.mask_classes import as_classes
from distill.data.split_files import read_groups, read_roles
from distill.runtime.issues import Problems
from students.config import FIELDS, read_config
from students.published import learned_keys, licence_of

SHARES = {"images": 40, "split files": 33, "manifests": 23, "published students": 4}  # of a hundred cases
MANY = int(os.environ.get("FUZZ_FILES", "270000"))  # of the long run, `-m study`
STEMS = ["a1", "a2", "a3", "é", "b 1", "image,1"]
WORDS = [
    "stem", "dataset", "dataset,stem", "one", "two", ",", ",,", "\n", "\r", "\r\n", '"', '""', "'", ";", "\t", "\0",
    "\ufeff", "é", "e\u0301", "\u2028", "a1", "a1.png", "../a1", "a" * 200_000, " ", "=1+1", "#", "\x1b[2J", "nan",
]  # fmt: skip
COLOURS = ("000000", "ff0000")


def pictures():
    """Small pictures and masks of every format and several modes, encoded."""
    random_ = np.random.default_rng(0)
    rgb = random_.integers(0, 255, (9, 13, 3), dtype=np.uint8)
    images = [
        (Image.fromarray(rgb), form) for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
    ] + [
        (Image.fromarray(rgb[..., 0] // 128 * 255), "PNG"),
        (Image.fromarray(rgb[..., 0].astype(np.uint16) * 200), "PNG"),
        (Image.fromarray(rgb[..., 0].astype(np.float32) / 255), "TIFF"),
        (Image.fromarray(rgb).quantize(8), "PNG"),
        (Image.fromarray(rgb).convert("RGBA"), "PNG"),
        (Image.fromarray(rgb[..., 0] > 99), "PNG"),
    ]  # fmt: skip
    for image, form in images:
        stream = io.BytesIO()
        image.save(stream, form)
        yield stream.getvalue()


class Images:
    """Pictures as images, as masks and as masks of classes."""

    def __init__(self, folder: Path) -> None:
        self.good = list(pictures())

    def case(self, draw):
        data = draw.choice(self.good)
        for _ in range(draw.choice((1, 1, 2, 5))):
            data = damaged(data or b"\0", draw)
        image = decode(data, most_pixels=1_000_000)
        assert np.asarray(as_rgb(image)).shape[2] == 3
        assert np.asarray(as_levels(image)).dtype == np.uint8
        as_classes(image, colours=COLOURS if draw.random() < 0.3 else ())


class SplitFiles:
    """Tables that say which image is in which part, and of groups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stems = {"one": set(STEMS), "two": {"x1", "x2"}}
        self.good = {
            "train": "dataset,stem\none,a1\none,a2\n",
            "val": "dataset,stem\none,a3\n",
            "test": "dataset,stem\ntwo,x1\ntwo,x2\n",
            "groups": "stem,patient\na1,p\na2,p\na3,q\n",
        }
        for part, text in self.good.items():
            (folder / f"{part}.csv").write_text(text, encoding="utf-8")

    def altered(self, text, draw):
        for _ in range(draw.randrange(1, 4)):
            start = draw.randrange(len(text) + 1)
            stop = min(len(text), start + draw.randrange(12))
            text = text[:start] + draw.choice(["", text[start:stop] * 2, draw.choice(WORDS)]) + text[stop:]
        data = text.encode("utf-8")
        return damaged(data, draw) if data and draw.random() < 0.3 else data

    def case(self, draw):
        part = draw.choice(list(self.good))
        file, problems = self.folder / f"{part}.csv", Problems("here")
        file.write_bytes(self.altered(self.good[part], draw))
        try:
            if part == "groups":
                groups = read_groups(self.folder, "groups.csv", STEMS, problems=problems)
                assert all(type(stem) is type(group) is str and group for stem, group in groups.items())
                return
            data = DataRecipe(name="folder", root=".", split=str(self.folder))
            roles = read_roles(data, self.stems, trained=["one", "two"], tested=["one", "two"], problems=problems)
            assert set(roles.parts.values()) <= {"train", "val", "test"}
            assert all(stem in self.stems[name] for name, stem in roles.parts)
        finally:
            file.write_text(self.good[part], encoding="utf-8")
        if problems.found:
            raise ValueError(problems.found[0].sentence)


class Manifests:
    """Manifests of caches, edited under a checksum of their own, and damaged."""

    def __init__(self, folder: Path) -> None:
        from small_run import write_features

        write_features(folder / "cache")
        self.folder = folder / "cache"
        self.good = (self.folder / "manifest.json").read_bytes()

    def case(self, draw):
        from cache import manifest

        data = damaged(self.good, draw)
        if draw.random() < 0.8:
            fields = {name: value for name, value in json.loads(self.good).items() if name != "checksum"}
            fields = edited(fields, draw)
            try:
                data = manifest._file({**fields, "checksum": manifest._sha256(manifest.canonical(fields))})
            except ValueError:  # nan, which no JSON holds
                data = json.dumps(fields).encode()
        (self.folder / "manifest.json").write_bytes(data)
        found = Manifest.read(self.folder)
        assert found.codecs.keys() == set(found.spec.names)


class PublishedStudents:
    """Folders of a published student, each with one file altered."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_student(folder / "student", classes=2)
        (self.folder / "learned.json").write_text('{"labelled": ["a", "b"]}')
        (self.folder / "README.md").write_text("---\nlicense: mit\n---\nA card.")
        (self.folder / "published.json").write_text('{"files": ["config.json"], "sha256": {"learned.json": "0"}}')
        self.good = {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def case(self, draw):
        name = draw.choice(list(self.good))
        data = damaged(self.good[name], draw)
        if name.endswith(".json") and draw.random() < 0.7:
            data = json.dumps(edited(json.loads(self.good[name]), draw)).encode()
        (self.folder / name).write_bytes(data)
        try:
            licence = licence_of(self.folder)
            assert licence is None or isinstance(licence, str)
            if name == "learned.json":
                (self.folder / "published.json").unlink()
            keys = learned_keys(self.folder)
            assert keys is None or all(isinstance(key, str) for key in keys)
            config = read_config(self.folder, needs=("image_size", "threshold"))
            assert all(holds(config[field]) for field, (_, holds) in FIELDS.items() if field in config)
            if name != "learned.json":
                network = students.load(self.folder)
                assert all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())
        finally:
            for file, good in self.good.items():
                if file in (name, "published.json"):
                    (self.folder / file).write_bytes(good)


KINDS = {
    "images": Images,
    "split files": SplitFiles,
    "manifests": Manifests,
    "published students": PublishedStudents,
}


def fuzz(folder, cases, seed):
    """So many cases of every kind, by `SHARES`; returns kind -> cases, and how many were refused."""
    draw, found = random.Random(seed), {}
    threads, level = torch.get_num_threads(), logging.getLogger("bandpass").level
    torch.set_num_threads(1), logging.getLogger("bandpass").setLevel(logging.CRITICAL)
    for kind, share in SHARES.items():
        (folder / kind).mkdir()
        files, counts = KINDS[kind](folder / kind), Counter()
        for number in range(cases * share // 100):
            state = draw.getstate()
            try:
                files.case(draw)
            except (ValueError, OSError) as error:
                assert str(error), (kind, number)
                assert kind != "images" or why_unreadable(error)
                counts["refused"] += 1
            except Exception as error:
                draw.setstate(state)
                raise AssertionError(f"case {number} of {kind}, seed {seed}: {error!r}") from error
            counts["cases"] += 1
        found[kind] = dict(counts)
    torch.set_num_threads(threads), logging.getLogger("bandpass").setLevel(level)
    return found


@pytest.mark.filterwarnings("ignore")
def test_files_that_nobody_means_lead_to_documented_errors_alone(tmp_path):
    found = fuzz(tmp_path, 3000, seed=0)
    assert all(kind["refused"] > 0.1 * kind["cases"] for kind in found.values()), found


@pytest.mark.study
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore")
def test_very_many_such_files_lead_to_documented_errors_alone(tmp_path, capsys):
    began = time.monotonic()
    found = fuzz(tmp_path, MANY, seed=int(os.environ.get("BANDPASS_FUZZ_SEED", "1")))
    cases = sum(kind["cases"] for kind in found.values())
    with capsys.disabled():
        sys.stdout.write(f"\n{cases:,} cases in {time.monotonic() - began:.0f} s: {found}\n")
