"""A recipe with its data opened and its folders named. Every verb works on a `Run`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distill.config.command import command_for
from distill.config.schedule import Span, spans_of
from distill.config.schema import Recipe
from distill.data.empty_regions import empty_regions
from distill.data.erase import erased_frames
from distill.data.sample import Sample, Splits
from distill.runs.barrier import agree, wait_for_all
from distill.runs.fingerprint import digest_file
from distill.runs.latest import DIGEST, digest_in
from distill.runtime.io import read_json, write_sealed
from students.registry import code_of

if TYPE_CHECKING:
    from accelerate import Accelerator

LATE_SECONDS = 60.0  # for which a node may list a shared folder late
PAUSE_SECONDS = 1.0
PREDICTIONS = "predictions_sha256"  # entries of metrics.json: the digest of the table of test images,
BEGUN = "extraction_begun"  # and, while images are extracted, teacher -> images
LOG = "log_sha256"  # entry of train.json: the digest of log.jsonl
Read = TypeVar("Read")

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Run:
    """A recipe with its data, caches, folder and processes."""

    recipe: Recipe
    splits: Splits
    caches: dict[str, Path]  # teacher -> folder of its features
    folder: Path  # of the run: recipe.yaml, log.jsonl, metrics.json, checkpoints/, student/
    accelerator: Accelerator
    made: dict[str, tuple[Run, ...]] = field(default_factory=dict)  # teacher -> the runs that make its weights
    step: str = ""  # the step at work; empty between steps

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The stages of training in steps."""
        return spans_of(self.recipe, labelled=len(self.splits.train), unlabelled=len(self.splits.unlabelled))

    @cached_property
    def validation(self) -> tuple[Sample, ...]:
        """The validation images and what `evaluate.empty_regions` and `evaluate.erased` make from them."""
        evaluate, val = self.recipe.evaluate, self.splits.val
        if self.recipe.reads_features:
            return (*val,)
        regions = empty_regions(val) if evaluate.empty_regions else ()
        return (*val, *regions, *(erased_frames(val) if evaluate.erased else ()))

    @property
    def weights(self) -> Path:
        """The student's tensors with the best validation score; final once `trained` exists."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def trained(self) -> Path:
        """The summary that `train` writes last."""
        return self.folder / "train.json"

    @property
    def predictions(self) -> Path:
        """The table of test images that `evaluate` writes."""
        return self.folder / "predictions.csv"

    @property
    def published(self) -> Path:
        """The folder that `publish` writes."""
        return self.folder / ("teacher" if self.recipe.reads_features else "student")

    def read_summary(self) -> dict[str, Any]:
        """The content of `trained`.

        Raises:
            FileNotFoundError: training is not complete.
            ValueError: the file is damaged, or belongs to another run.
        """
        return self._read_own(self.trained, cure=f"delete it and the folder checkpoints in {self.folder} to train anew")

    def read_metrics(self) -> dict[str, Any]:
        """The content of metrics.json; empty if there is none yet.

        Raises:
            ValueError: the file is damaged, or belongs to another run.
        """
        path = self.folder / "metrics.json"
        return self._read_own(path, cure="delete it, and evaluate again") if path.exists() else {}

    def _read_own(self, path: Path, *, cure: str) -> dict[str, Any]:
        state = read_json(path, cure=cure)
        own, found = (DIGEST.search(str(name)) for name in (self.folder.name, state.get("run", "")))
        if own and found and own[0] != found[0]:
            raise ValueError(f"{path} is damaged (it belongs to the run {state['run']}); {cure}")
        return state

    def write_own(self, path: Path, state: Mapping[str, Any]) -> None:
        """Replaces a state file; adds the run's name and a digest of everything."""
        write_sealed(path, {**state, "run": self.folder.name})

    def require_evaluated(self) -> dict[str, Any]:
        """The content of metrics.json once test sets have been scored.

        Raises:
            FileNotFoundError: no test set has been scored.
        """
        metrics = self.read_metrics()
        if "datasets" not in metrics:
            place = self.folder / "metrics.json"
            raise FileNotFoundError(f"no evaluation in {place}; type {command_for('evaluate')} first")
        return metrics

    def update_metrics(self, **entries: Any) -> None:  # noqa: ANN401
        """Merges `entries` into metrics.json, mappings one level deep."""
        metrics = self.read_metrics()
        for name, value in entries.items():
            metrics[name] = {**metrics.get(name, {}), **value} if isinstance(value, dict) else value
        self.write_metrics(metrics)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Replaces metrics.json."""
        self.write_own(self.folder / "metrics.json", metrics)

    def images_begun(self, teacher: str, images: int) -> int:
        """The number of images that a step's extraction had to do when it first began, before any kill.

        Args:
            teacher: the teacher of the extraction.
            images: the number to do now; returned as it is outside a step.
        """
        if not self.step:
            return images
        begun = self.read_metrics().get(BEGUN, {})
        if images and teacher not in begun:
            self.update_metrics(**{BEGUN: {teacher: images}})
        return max(images, begun.get(teacher, 0))

    def has_scores(self) -> bool:
        """Whether `predictions` exists, unchanged since it was written."""
        digest = self.read_metrics().get(PREDICTIONS)
        return self.predictions.is_file() and digest in (None, digest_file(self.predictions))

    def is_evaluated(self) -> bool:
        """Whether training is complete and its weights have been scored."""
        if not (self.trained.is_file() and self.weights.is_file() and self.has_scores()):
            return False
        return digest_file(self.weights) == self.read_metrics().get("evaluated", {}).get("weights")

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
            code = code_of(self.recipe.student.name)
            edited = f" (a training before {code} was edited is another student's)" if code else ""
            raise FileNotFoundError(f"training in {self.folder} {state}{edited}; type {command_for('train')} first")

    def agree(self, decide: Callable[[], Any]) -> Any:  # noqa: ANN401
        """The first process's decision, on all processes: files may change between two looks."""
        return agree(self.accelerator, decide)

    def wait(self) -> None:
        """Waits until all processes have arrived, however long the work of one takes."""
        wait_for_all(self.accelerator)

    def once_listed(self, read: Callable[[], Read]) -> Read:
        """The result of `read`, with retries: a node may list files of another process late.

        Raises:
            FileNotFoundError: `read` still raises it (after `LATE_SECONDS` if there are several processes).
        """
        limit = time.monotonic() + (LATE_SECONDS if self.accelerator.num_processes > 1 else 0.0)
        while True:
            try:
                return read()
            except FileNotFoundError as error:  # noqa: PERF203 - once a second
                if time.monotonic() >= limit:
                    raise
                logger.info("waiting, because this machine may list the folder late: %s", error)
                time.sleep(PAUSE_SECONDS)

    @property
    def digest(self) -> str:
        """The end of the folder's name: a digest of everything that determines the trained weights."""
        return digest_in(self.folder.name)
