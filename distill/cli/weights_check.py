"""`distill weights do=check`: identifies a file of weights, and runs its teacher on one image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import teachers
from distill.runtime.issues import aligned
from teachers.weights import MODEL
from teachers.weights.known import PUBLISHED
from teachers.weights.locate import read_config

SIDES = (360, 480)  # of the image, height and width


def check(options: Mapping[str, str]) -> str:
    """The facts about weights, one line each, after loading them strictly and running them on one image.

    Args:
        options: `weights` and, if given, `adapter`, `model`, `variant`, `image_size`.

    Raises:
        ValueError: nothing says which teacher they belong to, or they do not fit it.
        FileNotFoundError: there are no such weights.
    """
    adapter = options.get("adapter") or adapter_of(options["weights"])
    size = options.get("image_size")
    if size and not size.isdecimal():
        raise ValueError(f"image_size={size}, but must be a number of pixels")
    teacher = teachers.load(
        adapter,
        weights=options["weights"],
        model=options.get("model"),
        variant=options.get("variant"),
        image_size=int(size) if size else None,
    )
    started = perf_counter()
    maps = teacher([np.random.default_rng(0).integers(0, 256, (*SIDES, 3), dtype=np.uint8)])
    seconds = perf_counter() - started
    facts: dict[str, Any] = {
        "adapter": adapter,
        "model": describe(teacher.identity["model"]),
        "tensors": tensors(teacher.network),
        "pixels": f"{teacher.preprocessing.size} x {teacher.preprocessing.size}; {teacher.preprocessing.description}",
        **{
            f"map {entry.name}": f"{entry.channels} channels on {entry.grid[0]} x {entry.grid[1]} cells of stride "
            f"{entry.stride}; of one image mean {maps[entry.name].mean():.4f}, deviation {maps[entry.name].std():.4f}"
            for entry in teacher.spec
        },
        "seconds": f"{seconds:.2f} for one image, on the CPU",
        "licence": teacher.licence,
        "sha256": known(teacher.identity["weights"]),
        "type": " ".join(f"teachers.NAME.{name}={value}" for name, value in {"adapter": adapter, **options}.items()),
    }
    return "\n".join([options["weights"], *aligned([("", *row) for row in facts.items()])])


def adapter_of(weights: str) -> str:
    """The teacher that a config.json beside the weights names.

    Raises:
        ValueError: there is no config.json, or it names no teacher.
    """
    path = Path(weights).expanduser()
    config = (path if path.is_dir() else path.parent) / "config.json"
    for entry in PUBLISHED:
        if weights in (entry.hub_id, entry.name) and weights:
            return entry.teacher
    raw = read_config(config) if config.is_file() else {}
    kind = str(raw.get("model_type", ""))
    if "student" in raw:
        return "student"
    if "architecture" in raw:
        return "timm"
    if re.match(r"(sam2|sam3|edgetam)", kind):
        return "fpn"
    if kind in ("sam", "sam_vision_model"):
        return "sam"
    if kind in ("mask2former", "oneformer"):
        return kind
    if kind.startswith("dinov2"):
        return "dinov2"
    if kind:
        return "transformers"
    raise ValueError(
        f"{weights} does not say which network it belongs to: give adapter=NAME, of "
        f"{', '.join(sorted(teachers.TEACHERS))}, or a folder with {MODEL} and config.json"
    )


def describe(model: Any) -> str:  # noqa: ANN401
    """The settings of a network in one line."""
    return ", ".join(f"{key} {value}" for key, value in model.items()) if isinstance(model, dict) else str(model)


def tensors(network: Any) -> str:  # noqa: ANN401
    """Number, precision and parameters of the tensors that were loaded."""
    kinds = Counter(str(value.dtype).removeprefix("torch.") for value in network.state_dict().values())
    count = sum(parameter.numel() for parameter in network.parameters())
    (first, *_) = kinds.most_common()
    return f"{kinds.total()} of {first[0]}, {count / 1e6:.2f} million parameters"


def known(digest: str) -> str:
    """A checksum, and the known weights that have it."""
    names = [entry.name for entry in PUBLISHED if entry.sha256 == digest]
    return f"{digest}, {'that of ' + names[0] if names else 'of no known weights'}"
