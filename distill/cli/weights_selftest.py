"""`distill weights do=selftest`: compares real checkpoints on a generated image with stored summaries of maps."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch

import teachers
from distill.cli.weights_fetch import fetch, fetch_release
from distill.data.synthetic.generator import render
from distill.runtime.io import read_json, write_json
from distill.runtime.issues import aligned, nearest
from teachers.weights import CONFIG, MODEL
from teachers.weights.known import MEASURED, PUBLISHED

GOLDEN = Path(teachers.__file__).with_name("golden.json")
FRAME, SIZE = (0, 0), (240, 320)  # seed and index of the generator; height and width
VALUES = 8  # of each map
TOLERANCE = 0.01  # of a map's standard deviation: another interpolation changes more, another CPU far less

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Subject:
    """A real checkpoint; known ones are fetched by name.

    Attributes:
        adapter: the teacher that loads it.
        weights: those that come with Bandpass, as `teachers.load` takes them; empty if they are fetched or given.
        options: of `teachers.load`.
        config: a config.json for a file without one.
    """

    adapter: str
    weights: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


_CENTRED = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 224, 224], "license": "apache-2.0"}
SUBJECTS: dict[str, Subject] = {  # the smallest of each adapter
    "builtin": Subject("sam", "builtin"),
    "polyp-small": Subject("student", "zoo:polyp-small"),
    "polyp-ensemble": Subject("ensemble", "zoo:polyp-small,zoo:polyp-expert", {"image_size": 160}),
    "sam-vit-base": Subject("sam"),
    "sam2.1-hiera-tiny": Subject("fpn"),
    "edgetam": Subject("fpn"),
    "dinov2-small": Subject("dinov2"),
    "dinov3-convnext-tiny": Subject("transformers", options={"levels": (2, 3)}),
    "mask2former-swin-tiny": Subject("mask2former"),
    "oneformer-coco-swin-large": Subject("oneformer"),
    "tf_efficientnet_b0": Subject("timm", options={"strides": (8, 16, 32)}),
    MEASURED: Subject("timm", options={"model": "tf_efficientnet_b0", "strides": (8, 16, 32)}),
    "mobilenetv2-coral": Subject(
        "timm", options={"strides": (8, 16, 32)},
        config={"architecture": "mobilenetv2_100", "model_args": {"pad_type": "same"}, "pretrained_cfg": _CENTRED},
    ),
}  # fmt: skip


class AbsentError(FileNotFoundError):
    """The weights are not here and cannot be fetched."""


def selftest(names: Sequence[str], *, source: str, golden: Path) -> tuple[str, bool]:
    """A table of results, and whether all is well: nothing differs, and every named checkpoint was tested.

    Args:
        names: names of checkpoints; all if there are none.
        source: the folder or file of one checkpoint, or a folder that holds them by name; empty to fetch them.
        golden: the file of stored summaries; missing ones are added to it.

    Raises:
        ValueError: an unknown name.
    """
    for name in names:
        if name not in SUBJECTS:
            raise ValueError(f"no selftest of {name!r}; choose from {', '.join(SUBJECTS)}{nearest(name, SUBJECTS)}")
    stored, image = read_golden(golden), frame()
    rows, well = [("checkpoint", "adapter", "seconds", "result")], True
    for name in names or SUBJECTS:
        began = perf_counter()
        try:
            found = summarise(name, source, image)
        except AbsentError as error:
            result, fine = f"not tested: {str(error).partition(';')[0]}", name not in names
        except (ValueError, OSError) as error:
            result, fine = f"DOES NOT LOAD: {error}", False
        else:
            if known := stored["checkpoints"].get(name):
                result, fine = compare(found, known, tolerance=stored["tolerance"])
            else:
                stored["checkpoints"][name] = found
                write_json(golden, stored)
                result, fine = f"golden written to {golden}, which had none", True
        rows.append((name, SUBJECTS[name].adapter, f"{perf_counter() - began:.1f}", result))
        well = well and fine
    same = stored["image"]["sha256"] == hashlib.sha256(image.tobytes()).hexdigest()
    drawn = "" if same else "\nthe generator draws another image here than on the machine of the stored figures"
    return "\n".join(line.rstrip() for line in aligned(rows)) + drawn, well


def frame() -> np.ndarray:
    """The generated image, uint8 (H, W, 3)."""
    return render(*FRAME, size=SIZE)[0]


def read_golden(path: Path) -> dict[str, Any]:
    """The stored summaries, or the start of a new file."""
    if path.is_file():
        return read_json(path, cure="restore it, or give golden=FILE.json")
    digest = hashlib.sha256(frame().tobytes()).hexdigest()
    image = {"seed": FRAME[0], "index": FRAME[1], "size": list(SIZE), "sha256": digest}
    return {"image": image, "tolerance": TOLERANCE, "checkpoints": {}}


def summarise(name: str, source: str, image: np.ndarray) -> dict[str, Any]:
    """The summary of a checkpoint on one image: sha256 of the weights, pixels, and some figures of each map.

    Raises:
        AbsentError: the weights cannot be fetched.
        ValueError: they do not fit the adapter, or are damaged.
    """
    subject = SUBJECTS[name]
    with TemporaryDirectory() as folder:
        weights = place_of(name, source)
        if subject.config and Path(weights).is_file():
            (Path(folder) / MODEL).symlink_to(Path(weights).resolve())
            write_json(Path(folder) / CONFIG, subject.config)
            weights = folder
        teacher = teachers.load(subject.adapter, weights=weights, **subject.options)
        maps = teacher([image])
    return {
        "weights": teacher.identity["weights"],
        "pixels": teacher.preprocessing.description,
        "maps": {entry.name: figures(maps[entry.name][0]) for entry in teacher.spec},
    }


def place_of(name: str, source: str) -> str:
    """The weights of a checkpoint, as `teachers.load` takes them; fetched if no source is given.

    Raises:
        AbsentError: they cannot be fetched.
    """
    subject, entry = SUBJECTS[name], next((entry for entry in PUBLISHED if entry.name == name), None)
    if subject.weights:
        return subject.weights
    if source:
        given = Path(source).expanduser()
        beside = [place for place in (given / name, given / f"{name}.safetensors") if place.exists()]
        if not beside and not (given.is_file() or (given / MODEL).is_file()):
            raise AbsentError(f"{source} holds no {name} and no {name}.safetensors")
        return str(beside[0] if beside else given)
    if entry is None:
        raise AbsentError(f"no hub serves it; give name={name} from=FILE")
    try:
        place = fetch_release(entry) if entry.release else fetch(entry)
    except FileNotFoundError as error:
        raise AbsentError(str(error)) from error
    return str(place) if entry.release or entry.revision else entry.hub_id  # whose further files are found by its id


def figures(value: torch.Tensor) -> dict[str, Any]:
    """Shape, mean, standard deviation and some values, evenly spread, of a map (C, h, w)."""
    flat = value.flatten().double()
    places = torch.linspace(0, len(flat) - 1, VALUES).long()
    mean, std, *values = (float(f"{number:.7g}") for number in (flat.mean(), flat.std(), *flat[places]))
    return {"shape": list(value.shape), "mean": mean, "std": std, "values": values}


def compare(found: Mapping[str, Any], stored: Mapping[str, Any], *, tolerance: float) -> tuple[str, bool]:
    """The comparison of a summary with the stored one in words, and whether they agree."""
    for key in ("weights", "pixels"):
        if found[key] != stored[key]:
            return f"DIFFERS: {key} are {found[key]}, golden {stored[key]}", False
    shapes = [{name: entry["shape"] for name, entry in each["maps"].items()} for each in (found, stored)]
    if shapes[0] != shapes[1]:
        return f"DIFFERS: maps are {shapes[0]}, golden {shapes[1]}", False
    differences = {name: difference(entry, stored["maps"][name]) for name, entry in found["maps"].items()}
    worst = max(differences, key=differences.__getitem__)
    told = f"largest difference {differences[worst]:.1e} standard deviations, in {worst}"
    fine = differences[worst] <= tolerance
    return (f"equal: {told}" if fine else f"DIFFERS: {told}; at most {tolerance:g} is allowed"), fine


def difference(found: Mapping[str, Any], stored: Mapping[str, Any]) -> float:
    """The largest difference of mean, deviation and values, by the stored deviation."""
    pairs = [(one["mean"], one["std"], *one["values"]) for one in (found, stored)]
    return float(np.abs(np.subtract(*pairs)).max() / (stored["std"] or 1.0))


def describe(names: Sequence[str]) -> str:
    """The downloads that would be made, one line each."""
    known = {entry.name: entry for entry in PUBLISHED}
    lines = []
    for name in names or SUBJECTS:
        entry = known.get(name)
        size = f", {entry.size}" if entry and entry.size else ""
        place = entry.hub_id or entry.release if entry else SUBJECTS[name].weights or "from=FILE"
        lines.append(f"{name}: {place}{size}")
    return "\n".join(lines)
