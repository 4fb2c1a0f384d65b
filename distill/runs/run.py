"""A recipe made concrete: its data opened, its folders named. Every verb works on a `Run`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cache
from distill.config.schema import Recipe
from distill.data.prompts import record_key
from distill.data.sample import Splits
from distill.data.sources.open_data import open_data
from distill.runs.fingerprint import digest_features, digest_file, digest_run
from distill.runtime.io import write_json

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Run:
    """What the verbs `extract`, `train`, `evaluate` and `publish` work on."""

    recipe: Recipe
    splits: Splits
    caches: dict[str, Path]  # teacher -> folder of its features
    folder: Path  # of the run: recipe.yaml, log.jsonl, metrics.json, checkpoints/, student/
    accelerator: Accelerator

    @property
    def weights(self) -> Path:
        """The student's tensors that scored best on validation; final once `trained` is there."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def trained(self) -> Path:
        """The summary that `train` writes last."""
        return self.folder / "train.json"

    def require_trained(self) -> None:
        """Raises FileNotFoundError, saying what to run, unless training is complete."""
        if self.trained.is_file() and not self.weights.is_file():
            raise FileNotFoundError(
                f"training in {self.folder} was complete, but {self.weights.relative_to(self.folder)} has been removed "
                f"since; put it back (a published student's model.safetensors holds the same tensors), or delete "
                f"{self.trained.name} there to train anew"
            )
        if not self.trained.is_file():
            state = "is not complete" if self.weights.is_file() else "has not begun"
            raise FileNotFoundError(f"training in {self.folder} {state}; run do=train first")

    def agree(self, decide: Callable[[], Any]) -> Any:  # noqa: ANN401
        """What the first process decides, on all of them: files may change between one look and the next."""
        from accelerate.utils import broadcast_object_list

        decision = [decide() if self.accelerator.is_main_process else None]
        return broadcast_object_list(decision)[0] if self.accelerator.num_processes > 1 else decision[0]

    @property
    def published(self) -> Path:
        """The folder that `publish` writes."""
        return self.folder / ("teacher" if self.recipe.reads_features else "student")


def calibration_keys(splits: Splits, count: int) -> list[str]:
    """The training images on which a code is fitted: the `count` smallest keys, a random choice fixed by content."""
    return sorted({sample.key for sample in (*splits.train, *splits.unlabelled)})[:count]


def as_run(work: Run | Recipe) -> Run:
    """A run as it is; a recipe opened. So every verb takes either."""
    return work if isinstance(work, Run) else open_run(work)


def start_accelerator(recipe: Recipe) -> Accelerator:
    """Accelerate with the recipe's precision and trackers; projections that a stage does not use may rest.

    Raises:
        ValueError: a tracker that is not installed, or a precision that this machine does not have.
    """
    import torch
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState
    from accelerate.tracking import get_available_trackers

    installed = [str(tracker) for tracker in get_available_trackers()]
    for tracker in recipe.trackers:
        if tracker not in installed:
            raise ValueError(f"trackers names {tracker}, which is not installed; pip install {tracker}")
    if recipe.precision == "fp16" and not torch.accelerator.is_available():
        raise ValueError("precision is fp16, which needs a GPU; use bf16 or fp32")

    precision = "no" if recipe.precision == "fp32" else recipe.precision
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # Accelerate keeps the first precision of a process; a notebook may want two
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # unless it is said, processes without a GPU do not find each other
        mixed_precision=precision,
        log_with=recipe.trackers or None,
        project_dir=str(Path(recipe.home).expanduser() / "trackers"),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=timedelta(days=1)),  # the others wait while one looks at files or publishes
        ],
    )


def open_run(recipe: Recipe, *, accelerator: Accelerator | None = None, splits: Splits | None = None) -> Run:
    """Opens the data, unless given, and names the folders; rank 0 looks at the files first: others find the memo."""
    accelerator = accelerator or start_accelerator(recipe)
    home = Path(recipe.home).expanduser()
    with accelerator.main_process_first():
        splits = splits or open_data(recipe.data, home=home, classes=recipe.student.classes)
    calibration = calibration_keys(splits, recipe.cache.calibration)
    training = {sample.key: sample for sample in (*splits.train, *splits.unlabelled)}
    caches, contents = {}, {}
    for name, teacher in recipe.consulted.items():
        if teacher.cache:
            caches[name] = Path(teacher.cache).expanduser()
            contents[name] = digest_given(caches[name], teacher=name)
        else:
            source = contents.get(teacher.of or "", "")
            fitted = [record_key(teacher, training[key]) for key in calibration]
            digest = digest_features(teacher, fidelity=recipe.cache.fidelity, calibration=fitted, source=source)
            title = re.sub(r"[^\w.-]", ".", teacher.model or teacher.adapter)  # recipes may call it what they like
            contents[name] = f"{title}-{digest[:12]}"
            caches[name] = home / "features" / contents[name]
    digest = digest_run(recipe, splits=splits.digest(), caches=contents)
    folder = home / "runs" / f"{recipe.name}-{recipe.student.name.replace(':', '.')}-{digest[:12]}"
    return Run(recipe, splits, caches, folder, accelerator)


def digest_given(folder: Path, *, teacher: str) -> str:
    """What a given cache contributes to a run's identity: its manifest, whatever its folder is called.

    Raises:
        FileNotFoundError: there is no cache.
    """
    if not cache.exists(folder):
        raise FileNotFoundError(f"teachers.{teacher}.cache={folder} holds no cache (no manifest.json)")
    return digest_file(folder / "manifest.json")


def update_metrics(run: Run, **entries: Any) -> dict[str, Any]:  # noqa: ANN401
    """Merges `entries` into the run's metrics.json (mappings one level deep) and returns the whole."""
    path = run.folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, value in entries.items():
        metrics[name] = {**metrics.get(name, {}), **value} if isinstance(value, dict) else value
    write_json(path, metrics)
    return metrics
