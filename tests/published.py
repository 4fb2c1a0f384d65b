"""A published student small enough for tests, and pictures for it: discs that it finds, roughly."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from small_run import IMAGE_SIZE, read_disc, taught_tensors

import students
from students import MEAN, STD

CARD = "---\nlicense: other\nlicense_name: terms-of-discs\nmodel-index:\n- name: discs\n---\n\n# Discs\n\nDice 0.9\n"


def write_student(folder: Path, *, classes: int = 1, threshold: float = 0.5) -> Path:
    """A folder as `distill publish` leaves it, weights and config alone; of several classes with random weights."""
    student = students.create("unet", width=4, classes=classes)
    if classes == 1:
        student.load_state_dict(taught_tensors())
    config = {"student": "unet", "width": 4, "classes": classes, "image_size": IMAGE_SIZE, "threshold": threshold}
    student.save_pretrained(folder, config={**config, "mean": list(MEAN), "std": list(STD)})
    return folder


def write_carded_student(folder: Path) -> Path:
    """The same with a card whose front matter has results, and a record of an image that it has learned from."""
    write_student(folder)
    (folder / "README.md").write_text(CARD)
    (folder / "learned.json").write_text('{"labelled": ["a"]}')
    (folder / "results.json").write_text("{}")
    return folder


def write_disc(path: Path, seed: int, size: tuple[int, int] = (45, 62)) -> np.ndarray:
    """Saves the picture of a disc and returns its pixels as they are read from the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(read_disc(seed, size, "image")).save(path)
    return np.asarray(Image.open(path).convert("RGB"))


def without_onnx_and_pictures(monkeypatch):
    """Both take longer than all the rest and are tested elsewhere; torch answers in the file's place."""
    exported = []

    def export(deploy, path, *, metadata):
        exported.append(deploy)
        path.write_bytes(json.dumps(metadata).encode())

    def answer(images):
        with torch.inference_mode():
            return exported[-1](torch.from_numpy(images)).numpy()

    publishing = import_module("distill.publishing.student")
    monkeypatch.setattr(publishing, "export_onnx", export)
    monkeypatch.setattr(publishing, "open_onnx", lambda path, threads=0: answer)
    monkeypatch.setattr(publishing, "draw_examples", lambda *_, **__: [])
