"""A recipe made concrete: its data opened, its folders named. Every verb works on a `Run`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distill.config.command import command_for
from distill.config.schedule import Span, spans_of
from distill.config.schema import Recipe
from distill.data.prompts import record_key
from distill.data.sample import Splits
from distill.data.sources.open_data import open_data
from distill.runs.accelerator import start_accelerator
from distill.runs.paths import name_caches, run_folder

if TYPE_CHECKING:
    from accelerate import Accelerator

LATE_SECONDS = 60.0  # for which a node may list a shared folder as it was
PAUSE_SECONDS = 1.0
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

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The stages of training in steps."""
        return spans_of(self.recipe, labelled=len(self.splits.train), unlabelled=len(self.splits.unlabelled))

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
            raise FileNotFoundError(f"training in {self.folder} {state}; type {command_for('train')} first")

    def agree(self, decide: Callable[[], Any]) -> Any:  # noqa: ANN401
        """The first process's decision, on all processes: files may change between one look and the next."""
        from accelerate.utils import broadcast_object_list

        decision = [decide() if self.accelerator.is_main_process else None]
        return broadcast_object_list(decision)[0] if self.accelerator.num_processes > 1 else decision[0]

    def once_listed(self, read: Callable[[], Read]) -> Read:
        """The result of reading files that another process has written, which a node may list late: it tries again.

        Raises:
            FileNotFoundError: `read` raises it, of several processes for `LATE_SECONDS`.
        """
        limit = time.monotonic() + (LATE_SECONDS if self.accelerator.num_processes > 1 else 0.0)
        while True:
            try:
                return read()
            except FileNotFoundError as error:  # noqa: PERF203 - once a second
                if time.monotonic() >= limit:
                    raise
                logger.info("waiting, since this machine may list the folder late: %s", error)
                time.sleep(PAUSE_SECONDS)

    @property
    def published(self) -> Path:
        """The folder that `publish` writes."""
        return self.folder / ("teacher" if self.recipe.reads_features else "student")


def as_run(work: Run | Recipe) -> Run:
    """A run as it is; a recipe opened. So every verb takes either."""
    return work if isinstance(work, Run) else open_run(work)


def open_run(recipe: Recipe, *, accelerator: Accelerator | None = None, splits: Splits | None = None) -> Run:
    """Opens the data, unless its splits are given, and names the folders."""
    accelerator = accelerator or start_accelerator(recipe)
    home = Path(recipe.home).expanduser()
    with accelerator.main_process_first():  # which looks at the files, so that the others find its index
        splits = splits or open_data(recipe.data, home=home, classes=recipe.student.classes)
        content = splits.digest()
    fitted = splits.calibration(recipe.cache.calibration)
    records = {name: [record_key(entry, sample) for sample in fitted] for name, entry in recipe.consulted.items()}
    caches = name_caches(recipe, records, home=home)
    folder = run_folder(recipe, content, caches, home=home)
    return Run(recipe, splits, {name: entry.path for name, entry in caches.items()}, folder, accelerator)
