"""A recipe made concrete: its data opened, its folders named. Every verb works on a `Job`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.data import open_data
from distill.data.sample import Splits
from distill.digest import digest_features, digest_file, digest_run
from distill.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Job:
    """What the verbs `extract`, `train`, `evaluate` and `publish` work on."""

    recipe: Recipe
    splits: Splits
    caches: dict[str, Path]  # teacher -> folder of its features
    folder: Path  # of the run: recipe.yaml, log.jsonl, metrics.json, checkpoints/, student/
    accelerator: Accelerator

    @property
    def weights(self) -> Path:
        """The trained student's tensors (best on validation), which `train` writes last."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def published(self) -> Path:
        """The folder that `publish` writes."""
        return self.folder / "student"


def calibration_keys(splits: Splits, count: int) -> list[str]:
    """The training images on which a code is fitted: the `count` smallest keys, a random choice fixed by content."""
    return sorted({sample.key for sample in splits.train})[:count]


def as_job(work: Job | Recipe) -> Job:
    """A job as it is; a recipe opened. So every verb takes either."""
    return work if isinstance(work, Job) else open_job(work)


def start_accelerator(recipe: Recipe) -> Accelerator:
    """Accelerate with the recipe's precision and trackers; projections that a stage does not use may rest."""
    import torch
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    precision = "no" if recipe.precision == "fp32" else recipe.precision
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # Accelerate keeps the first precision of a process; a notebook may want two
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # unless it is said, processes without a GPU do not find each other
        mixed_precision=precision,
        log_with=recipe.trackers or None,
        project_dir=str(Path(recipe.home).expanduser() / "trackers"),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def open_job(recipe: Recipe, *, accelerator: Accelerator | None = None) -> Job:
    """Opens the data and names the folders; rank 0 looks at the files first so that others find the memo warm."""
    accelerator = accelerator or start_accelerator(recipe)
    home = Path(recipe.home).expanduser()
    with accelerator.main_process_first():
        splits = open_data(recipe.data, home=home)
    calibration = calibration_keys(splits, recipe.cache.calibration)
    caches, contents = {}, {}
    for name, teacher in recipe.teachers.items() if recipe.imitates else ():
        if teacher.cache:
            caches[name] = Path(teacher.cache).expanduser()
            contents[name] = digest_given(caches[name], teacher=name)
        else:
            digest = digest_features(teacher, fidelity=recipe.cache.fidelity, calibration=calibration)
            contents[name] = f"{name}-{digest[:12]}"
            caches[name] = home / "features" / contents[name]
    digest = digest_run(recipe, splits=splits.digest(), caches=contents)
    folder = home / "runs" / f"{recipe.name}-{recipe.student.name.replace(':', '.')}-{digest[:12]}"
    return Job(recipe, splits, caches, folder, accelerator)


def digest_given(folder: Path, *, teacher: str) -> str:
    """What a given cache contributes to a run's identity: its manifest, whatever its folder is called.

    Raises:
        FileNotFoundError: there is no cache.
    """
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(f"teachers.{teacher}.cache={folder} holds no cache (no manifest.json)")
    return digest_file(folder / "manifest.json")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def update_metrics(job: Job, **entries: Any) -> dict[str, Any]:  # noqa: ANN401
    """Merges `entries` into the run's metrics.json (mappings one level deep) and returns the whole."""
    path = job.folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, value in entries.items():
        metrics[name] = {**metrics.get(name, {}), **value} if isinstance(value, dict) else value
    write_json(path, metrics)
    return metrics
