"""What the training loop works with, put together for a run and put back where the last checkpoint left it."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from distill.config.parse import dump_recipe
from distill.config.registry import PARTS
from distill.config.schedule import Span, spans_of
from distill.distillation.dataset import TrainingSet
from distill.distillation.distiller import Distiller, Target, plan_inputs, plan_targets
from distill.runs.checks import check, create_student, open_caches
from distill.runs.run import Run
from distill.runtime.io import write_text
from distill.runtime.memory_format import memory_format_of
from distill.runtime.progress import Progress
from distill.training.checkpoint import load_checkpoint, metadata_of, save_checkpoint
from distill.training.jsonl_log import Journal

logger = logging.getLogger("bandpass")


@dataclass
class State:
    """Where training stands; saved with every checkpoint."""

    step: int = 0  # of the plan
    taken: int = 0  # steps; fewer than `step` where a stage ended early
    best: float = -1.0  # validation Dice
    best_step: int = 0
    stage_best: float = -1.0
    stale: int = 0  # scores since the stage's best
    seconds: float = 0.0
    collapsed: list[str] = field(default_factory=list)  # targets whose projection had collapsed when a stage ended


@dataclass
class Course:
    """What the loop works with."""

    run: Run
    targets: tuple[Target, ...]
    student: nn.Module
    average: AveragedModel | None  # of the student's weights over steps
    model: nn.Module  # the distiller as Accelerate wraps it
    optimiser: Any  # Accelerate's wrapper of AdamW
    dataset: TrainingSet
    spans: tuple[Span, ...]
    state: State
    journal: Journal
    bar: Progress
    memory_format: torch.memory_format

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return self.spans[-1].stop

    @property
    def scored(self) -> nn.Module:
        """What is scored and kept: the averaged weights where there are such, else the student's own."""
        return self.student if self.average is None else self.average.module

    def inputs(self, batch: dict[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        """What the student reads of a batch: images, or a teacher's maps."""
        if self.dataset.inputs:
            return tuple(batch[target.name] for target in self.dataset.inputs)
        return batch["image"].contiguous(memory_format=self.memory_format)


def begin(run: Run) -> Course:
    """Opens the caches, builds student and optimiser, and puts them where the last checkpoint left them."""
    recipe, accelerator = run.recipe, run.accelerator
    lead = accelerator.is_main_process
    check(run)
    torch.backends.cudnn.deterministic = True  # a continued run must end where an uninterrupted one does
    if lead:
        write_text(run.folder / "recipe.yaml", dump_recipe(recipe))
    caches = open_caches(run)
    student = create_student(recipe, caches)
    targets = plan_targets(recipe, caches, student)
    layout = memory_format_of(student, device=accelerator.device, precision=recipe.precision)
    distiller = Distiller(student, targets).to(accelerator.device).to(memory_format=layout)
    optimiser = torch.optim.AdamW(
        parts_of(distiller), lr=recipe.optimiser.learning_rate, weight_decay=recipe.optimiser.weight_decay
    )
    average = averaged(student, decay=recipe.optimiser.ema) if recipe.optimiser.ema else None
    state = State()
    saved: dict[str, Any] = {}
    if run.agree(checkpoint_of(run).is_file):
        saved = load_checkpoint(checkpoint_of(run), saved_modules(distiller, average), optimiser)
        state = State(**saved["state"])
        logger.info("continuing at step %d from %s", state.step, checkpoint_of(run))
    keep_best(state, run.weights)
    model, wrapped = accelerator.prepare(distiller, optimiser)
    if accelerator.scaler is not None and saved.get("scaler"):
        accelerator.scaler.load_state_dict(saved["scaler"])
    samples = (*run.splits.train, *run.splits.unlabelled)
    dataset = TrainingSet(samples, recipe, caches, inputs=plan_inputs(recipe, caches))
    dataset.keep_in_memory()
    spans = spans_of(recipe, labelled=len(run.splits.train), unlabelled=len(run.splits.unlabelled))
    journal = Journal(run.folder / "log.jsonl", step=state.step, writes=lead)
    bar = Progress("train", total=spans[-1].stop, unit="steps", shown=lead, done=state.step)
    return Course(run, targets, student, average, model, wrapped, dataset, spans, state, journal, bar, layout)


def keep_best(state: State, weights: Path) -> None:
    """Where the best weights are of a later step than the checkpoint, counts their score as the best so far.

    They are written at every better score, the checkpoint now and then. Without this, steps that a kill took back and
    that come out otherwise (on a GPU, on another number of processes) would leave weights of one step under the score
    of another.
    """
    if not weights.is_file():
        return
    said = metadata_of(weights)
    if int(said.get("step", 0)) > state.step:
        state.best, state.best_step = float(said["validation_dice"]), int(said["step"])


def parts_of(distiller: Distiller) -> list[dict[str, Any]]:
    """The optimiser's groups of parameters, so that a part can learn at a rate of its own."""
    parts = {name: list(getattr(distiller.student, name).parameters()) for name in PARTS}
    known = {id(parameter) for parameters in parts.values() for parameter in parameters}
    parts["rest"] = [parameter for parameter in distiller.parameters() if id(parameter) not in known]
    return [{"part": name, "params": parameters} for name, parameters in parts.items() if parameters]


def averaged(student: nn.Module, *, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics, `decay` a step; it begins as they are."""
    return AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def saved_modules(model: nn.Module, average: AveragedModel | None) -> dict[str, nn.Module]:
    """What a checkpoint holds beside the optimiser."""
    return {"model": model} if average is None else {"model": model, "average": average}


def save(course: Course, *, seconds: float) -> None:
    """Writes the checkpoint on the first process."""
    accelerator = course.run.accelerator
    course.state.seconds = seconds
    if accelerator.is_main_process:
        modules = saved_modules(accelerator.unwrap_model(course.model), course.average)
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
        state = {"state": asdict(course.state), "scaler": scaler}
        save_checkpoint(checkpoint_of(course.run), modules, course.optimiser.optimizer, state)


def checkpoint_of(run: Run) -> Path:
    """The file that a killed run continues from; removed when training is complete."""
    return run.folder / "checkpoints" / "last.safetensors"
