"""A whole job (extract, train, evaluate, publish) of a few seconds on tiny drawn data, run in processes of its own.

As a script, `python tests/small_job.py FOLDER` does the job of a folder, and marks in FOLDER/marks where it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

STEPS = ("extract", "train", "evaluate", "publish")
TAKEN = ("seconds", "latency", "content_sha256")  # entries that say how long something took, or depend on such
RECIPE = """\
name: tiny
home: {folder}/home
image_size: 32
workers: 0
data: {{name: folder, root: {data}, fractions: [0.6, 0.2, 0.2]}}
teachers:
  cells: {{adapter: timm, weights: {weights}, model: test_efficientnet, strides: [8, 16], image_size: 64}}
cache: {{fidelity: 0.8, calibration: 12}}
student: {{name: unet, width: 2}}
augment: {{views: [identity, hflip]}}
optimiser: {{batch_size: 4}}
stages:
  semantic: {{steps: 12, losses: {{segment: 1.0, imitate_low: 1.0}}}}
  boundary: {{steps: 8, losses: {{segment: 1.0, boundary: 0.5, imitate_high: 0.5}}}}
evaluate: {{bootstrap: 100, every: 1}}
publish: {{examples: 2}}
{more}"""


def write_data(folder: Path, images: int = 40) -> None:
    """Pairs of a drawn disc and its mask, as a user's folder has them."""
    from small_run import read_disc

    for seed in range(images):
        for part in ("image", "mask"):
            path = folder / f"{part}s" / f"frame{seed:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(read_disc(seed, (36, 44), part) * (255 if part == "mask" else 1)).save(path)


def write_job(folder: Path, shared: Path, more: str = "") -> Path:
    """Writes the recipe of a job into its folder, over data and a teacher in `shared`, made if need be."""
    from small_teachers import write_timm

    if not (shared / "data").is_dir():
        write_data(shared / "data")
        write_timm(shared / "timm")
    folder.mkdir(parents=True)
    (weights,) = (shared / "timm").glob("*.safetensors")
    text = RECIPE.format(folder=folder, data=shared / "data", weights=weights, more=more)
    (folder / "recipe.yaml").write_text(text)
    return folder


def do_job(folder: Path) -> int:
    """Does the job, with small shards and a checkpoint at every few steps; returns the exit status."""
    import torch

    import cache.store
    from distill.extraction import calibrate
    from distill.run import main
    from distill.runs import steps
    from distill.training import train as _  # noqa: F401 - the package has a function of that name

    contents = import_module("distill.publishing.student")
    contents.export_onnx = exported_once(contents.export_onnx, folder.parent / "shared" / "onnx")
    torch.set_num_threads(1)
    cache.store.SIZE = calibrate.SIZE = 8
    training = sys.modules["distill.training.train"]
    training.CHECKPOINT_EVERY_SECONDS, training.LOG_EVERY_STEPS = 0.0, 2
    rank, do_step = os.environ.get("RANK", "0"), steps.do_step
    marks = folder / "marks"
    marks.mkdir(exist_ok=True)
    (marks / f"pid{rank}").write_text(str(os.getpid()))

    def marked(name, run):
        (marks / f"{name}{rank}").touch()
        return do_step(name, run)

    steps.do_step = marked
    status = main([f"recipe={folder / 'recipe.yaml'}"])
    (marks / f"done{rank}").touch()
    return status


def exported_once(export: Callable[..., None], kept: Path) -> Callable[..., None]:
    """An export to ONNX that keeps its files and copies the one of equal weights, since each takes 15 processor s."""

    def copied(model: object, path: Path, *, metadata: dict[str, str]) -> None:
        parts = [path.with_name(name).read_bytes() for name in ("model.safetensors", "config.json")]
        file = kept / hashlib.sha256(b"".join([*parts, json.dumps(metadata).encode()])).hexdigest()
        if not file.is_file():
            export(model, path, metadata=metadata)
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, kept / f"unfinished-{os.getpid()}").rename(file)
        shutil.copy(file, path)

    return copied


def result_of(folder: Path) -> dict[str, object]:
    """The results, the same whatever happened on the way: files by name as bytes, JSON without what took how long."""
    (run,) = (folder / "home" / "runs").iterdir()
    (features,) = (folder / "home" / "features").iterdir()
    found: dict[str, object] = {
        path.relative_to(features).as_posix(): path.read_bytes()
        for path in features.rglob("*")
        if path.name not in (".lock",) and path.is_file()
    }
    student = run / "student"
    files = [student / name for name in ("model.safetensors", "model.onnx", "config.json") if student.is_dir()]
    files += [run / "predictions.csv", run / "log.jsonl", run / "checkpoints" / "best.safetensors"]
    found |= {path.name: path.read_bytes() for path in files}
    for path in (run / "metrics.json", run / "train.json"):
        found[path.name] = json.dumps(without_times(json.loads(path.read_text())), indent=1)
    unfinished = (path for path in folder.rglob("*") if path.name.startswith((".writing", ".student")))
    return {**found, "left over": [path.relative_to(folder).as_posix() for path in unfinished]}


def without_times(value: object) -> object:
    """A JSON value without the entries that say how long something took."""
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name not in TAKEN}
    return [without_times(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(do_job(Path(sys.argv[1])))
