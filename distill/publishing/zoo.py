"""A student as it ships with Bandpass (`publish.zoo`): small, in float16 if masks or Dice stay the same."""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_model
from torch import nn

from distill.data.sample import Sample
from distill.inference.model import InferenceModel, load_model
from distill.metrics.overlap import overlap
from distill.publishing.card import render_card
from distill.publishing.folder import replaced, require_free
from distill.publishing.plan import Plan
from distill.publishing.student import open_to_others
from distill.runtime.io import read_json_if_sound, write_json, write_text
from distill.runtime.issues import several
from distill.runtime.progress import progress
from students.catalogue import FOLDER, PREFIX
from students.published import LEARNED

LARGEST_BYTES = 10_000_000  # of model.safetensors
LARGEST_DICE_DIFFERENCE = 0.0005  # of mean Dice over the validation images, in either direction
COPIED = ("config.json", "recipe.yaml", LEARNED)
FACTS = ("thresholds", "calibration", "latency", "image_scores")  # of published.json; the int8 file does not ship
RESULTS = "results.json"

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Precision:
    """The precision in which weights are kept, and the measurements behind it.

    Attributes:
        kept: `float16` (tensors of one dimension stay float32), or `float32`.
        images: number of validation images on which the two were compared.
        equal_masks: number of these images whose mask is the same.
        dice: mean Dice with float16.
        dice_before: mean Dice with float32.
    """

    kept: str
    images: int
    equal_masks: int
    dice: float
    dice_before: float


def write_to_zoo(plan: Plan, published: Mapping[str, Any], target: Path) -> Path:
    """Writes a run's published student into the folder `target` (weights, config, recipe, card, results); returns it.

    Raises:
        ValueError: `target` is a file or holds other files, or the weights are larger than `LARGEST_BYTES`.
        FileExistsError: another process is writing `target`.
    """
    target = target.expanduser()
    require_replaceable(target)
    require_free(target)  # before the masks of all validation images are compared
    run, facts = plan.run, {name: published[name] for name in FACTS if name in published}
    model = load_model(run.published, trust=run.recipe.student.name)
    half = halved(model)
    precision = compare_precisions(model, half, run.splits.val)
    with replaced(target) as folder:
        chosen = half if precision.kept == "float16" else model
        for name in COPIED:
            shutil.copyfile(run.published / name, folder / name)
        written = save_small(chosen.student, folder / "model.safetensors", as_half=chosen is half)
        write_json(folder / RESULTS, results_of(plan, facts, precision, size=written))
        place = f"{PREFIX}{target.name}" if target.resolve().parent == FOLDER else "path/to/this/folder"
        card = render_card(
            run,
            plan.metrics,
            origin=plan.origin,
            check=published["onnx"],
            pictures=[],
            found={**facts, "precision": asdict(precision)},
            shipped=place,
        )
        write_text(folder / "README.md", card)
    logger.info("%s: %s, %.1f MB; in float16 Dice %.4f on %s (float32: %.4f), %s unchanged", target,
                precision.kept, written / 1e6, precision.dice, several(precision.images, "validation image"),
                precision.dice_before, several(precision.equal_masks, "mask"))  # fmt: skip
    return target


def require_replaceable(target: Path) -> None:
    """Raises ValueError unless `target` is new, an empty folder, or one that `write_to_zoo` wrote."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / RESULTS).is_file() or "student" not in read_json_if_sound(target / "config.json"):
        raise ValueError(
            f"publish.zoo={target} exists, but publish.zoo did not write it (with {RESULTS} and config.json); "
            "name a new folder"
        )


def halved(model: InferenceModel) -> InferenceModel:
    """A copy of the model with its tensors of two or more dimensions rounded to float16; it computes in float32."""
    rounded = copy.deepcopy(model)
    for tensor in large_tensors(rounded.student):
        tensor.data = tensor.data.half().float()
    return rounded


def large_tensors(network: nn.Module) -> list[Any]:
    """The floating-point tensors that are kept as float16; one-dimensional ones (norms, biases) are small."""
    tensors = (*network.parameters(), *network.buffers())
    return [tensor for tensor in tensors if tensor.is_floating_point() and tensor.ndim > 1]


def compare_precisions(model: InferenceModel, half: InferenceModel, val: Sequence[Sample]) -> Precision:
    """The precision to keep: float16 if all masks are the same or Dice differs by at most `LARGEST_DICE_DIFFERENCE`.

    Args:
        model: with float32 weights, and the thresholds with which it is served.
        half: `halved` of it.
        val: the validation images.
    """
    same = 0
    table: list[list[float]] = []
    for sample in progress(val, what="compare float16", total=len(val)):
        image, mask = sample.read_image(), sample.read_mask()
        before, after = (model.thresholds.mask(one.predict(image)) for one in (model, half))
        same += bool((before == after).all())
        table.append([overlap(found, mask, classes=model.classes)[0] for found in (before, after)])
    dice_before, dice = np.mean(table, axis=0).tolist()
    finite = all(bool(tensor.isfinite().all()) for tensor in large_tensors(half.student))  # float16 ends at 65504
    equal = finite and (same == len(val) or abs(dice - dice_before) <= LARGEST_DICE_DIFFERENCE)
    return Precision("float16" if equal else "float32", len(val), same, dice, dice_before)


def save_small(network: nn.Module, path: Path, *, as_half: bool) -> int:
    """Writes a network's tensors, the large ones as float16 if `as_half`, and returns the size of the file in bytes.

    Raises:
        ValueError: the file is larger than `LARGEST_BYTES`.
    """
    saved = copy.deepcopy(network)
    for tensor in large_tensors(saved) if as_half else ():
        tensor.data = tensor.data.half()
    save_model(saved, str(path))
    open_to_others(path)
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise ValueError(
            f"publish.zoo takes weights of at most {LARGEST_BYTES / 1e6:g} MB, but these have {size / 1e6:.1f} MB as "
            f"{'float16' if as_half else 'float32'}; publish a smaller student (student.width), or push it with "
            "publish.hub"
        )
    return size


def results_of(plan: Plan, facts: Mapping[str, Any], precision: Precision, *, size: int) -> dict[str, Any]:
    """results.json: the measurements, and what the student was made from."""
    run, origin, metrics = plan.run, plan.origin, plan.metrics
    return {
        "student": {"name": run.recipe.student.name, "width": run.recipe.student.width, **metrics["student"]},
        "training": origin.parts.get("training", {}),
        "unlabelled": origin.parts.get("unlabelled", {}),
        "teachers": sorted(origin.teachers),
        "datasets": metrics["datasets"],
        "convention": metrics["convention"],
        "published": facts,
        "weights": {**asdict(precision), "bytes": size},
        "run": run.folder.name,
    }
