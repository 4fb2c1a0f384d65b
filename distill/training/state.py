"""The objects that the training loop works on, built from a plan and restored from its checkpoint."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from distill.distillation.dataset import TrainingSet
from distill.distillation.distiller import Distiller
from distill.distillation.targets import Target, plan_inputs, plan_targets
from distill.runs.build import create_student
from distill.runs.run import Run
from distill.runtime.freed_memory import keep_freed_memory
from distill.runtime.hardware import precision_here
from distill.runtime.memory_format import memory_format_of
from distill.runtime.progress import Progress
from distill.training.checkpoint import checkpoint_of, load_checkpoint, save_checkpoint
from distill.training.jsonl_log import JsonlLog
from distill.training.parameters import averaged, create_optimiser, frozen_by_author, mixed, reaches_all
from distill.training.plan import TrainingPlan
from students import Student

EXAMPLES = 64  # at most: images from which a student may take statistics before the first step
EXAMPLES_AT_ONCE = 8

logger = logging.getLogger("bandpass")


@dataclass
class Counters:
    """The progress of training; saved with every checkpoint."""

    step: int = 0  # of the plan
    taken: int = 0  # steps actually done; fewer than `step` if a stage ended early
    # The score by which weights are kept, validation Dice or what evaluate.select names; negated if lower is better.
    best: float = -math.inf
    best_step: int = 0
    stage_best: float = -math.inf
    stale: int = 0  # scores since the stage's best
    seconds: float = 0.0
    collapsed: list[str] = field(default_factory=list)  # targets whose projection had collapsed when a stage ended
    gradient_ratio: float | None = None  # of the stage's task to its imitation, if imitate.gradient_share is set
    best_dice: float | None = None  # validation Dice of the best weights if another figure chose them
    sums: dict[str, float] = field(default_factory=dict)  # sums of loss terms since the last log, over `summed` steps
    summed: int = 0


@dataclass
class TrainingState:
    """A training in progress."""

    plan: TrainingPlan
    targets: tuple[Target, ...]
    student: nn.Module
    frozen: frozenset[str]  # parameters that the student's own code has frozen
    average: AveragedModel | None  # of the student's weights over steps
    first: dict[str, Tensor]  # the student's weights before the first step, if student.init_share mixes them in
    model: nn.Module  # the distiller as Accelerate wraps it
    optimiser: Any  # Accelerate's wrapper of AdamW
    dataset: TrainingSet
    counters: Counters
    log: JsonlLog
    bar: Progress
    memory_format: torch.memory_format
    began: float  # time.monotonic() minus the seconds of the trainings that this one continues

    @property
    def run(self) -> Run:
        """The run in training."""
        return self.plan.run

    @property
    def averaged_student(self) -> nn.Module:
        """The averaged weights if there are any, else the student."""
        return self.student if self.average is None else self.average.module

    @property
    def scored(self) -> nn.Module:
        """The network that is scored and kept: the averaged weights, with the share `student.init_share` of the first.

        A copy if there is such a share.
        """
        share = self.run.recipe.student.init_share
        return mixed(self.averaged_student, self.first, share) if share else self.averaged_student

    def inputs(self, batch: dict[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        """The student's input in a batch: images (N, 3, H, W), or a teacher's maps (N, C, h, w)."""
        if self.dataset.inputs:
            return tuple(batch[target.name] for target in self.dataset.inputs)
        return batch["image"].contiguous(memory_format=self.memory_format)


def build_state(plan: TrainingPlan) -> TrainingState:
    """Builds student, optimiser and data of a plan, and restores them from its checkpoint."""
    run, recipe, accelerator = plan.run, plan.run.recipe, plan.run.accelerator
    lead = accelerator.is_main_process
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    torch.backends.cudnn.deterministic = True  # a continued run must end where an uninterrupted one does
    student = create_student(recipe, plan.caches)
    frozen = frozen_by_author(student)
    dataset = TrainingSet(
        run.splits.training,
        recipe,
        plan.caches,
        inputs=plan_inputs(recipe, plan.caches),
        on_device=accelerator.device.type != "cpu",
    )
    if isinstance(student, Student):
        student.calibrate(example_images(dataset))
    first = {name: tensor.clone() for name, tensor in student.state_dict().items()} if recipe.student.init_share else {}
    targets = plan_targets(recipe, plan.caches, student)
    layout = memory_format_of(student, device=accelerator.device, precision=precision_here(recipe.precision))
    distiller = Distiller(student, targets).to(accelerator.device).to(memory_format=layout)
    dataset.keep_in_memory()
    if accelerator.num_processes > 1 or recipe.optimiser.accumulate > 1:
        share_batch_norm(student, plan)
    optimiser = create_optimiser(distiller, recipe.optimiser)
    average = averaged(student, recipe.optimiser)
    if accelerator.num_processes > 1:
        choose_synchronisation(distiller, plan, targets, inputs=dataset.inputs, frozen=frozen)
    counters, scaler, logged = restore(plan, saved_modules(distiller, average), optimiser)
    model, wrapped = accelerator.prepare(distiller, optimiser)
    if accelerator.scaler is not None and scaler:
        accelerator.scaler.load_state_dict(scaler)
    bar = Progress("train", total=plan.steps, unit="steps", shown=lead, done=counters.step)
    log = JsonlLog(run.folder / "log.jsonl", step=counters.step, writes=lead, digest=logged)
    began = time.monotonic() - counters.seconds
    return TrainingState(
        plan, targets, student, frozen, average, first, model, wrapped, dataset, counters, log, bar, layout, began
    )


def example_images(dataset: TrainingSet) -> Iterator[Tensor]:
    """Images spread over a training set, as a student reads them, (n, 3, H, W) at a time; the same on all processes."""
    chosen = list(range(0, len(dataset), -(-len(dataset) // EXAMPLES)))
    for start in range(0, len(chosen), EXAMPLES_AT_ONCE):
        yield torch.stack([dataset[0, index]["image"] for index in chosen[start : start + EXAMPLES_AT_ONCE]])


def restore(
    plan: TrainingPlan, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer
) -> tuple[Counters, dict[str, Any] | None, str | None]:
    """Restores modules and optimiser from the plan's checkpoint, if there is one.

    Returns:
        The counters, the scaler's state, and the digest of the log.
    """
    if plan.checkpoint is None:
        return Counters(), None, None
    saved = load_checkpoint(plan.checkpoint, modules, optimiser)
    counters = Counters(**saved["state"])
    logger.info("continuing at step %d from %s", counters.step, plan.checkpoint)
    return counters, saved["scaler"], saved.get("log")


def share_batch_norm(student: nn.Module, plan: TrainingPlan) -> None:
    """Synchronises batch norm over processes on several GPUs; warns if it still sees only a part of the batch."""
    run, optimiser = plan.run, plan.run.recipe.optimiser
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in student.modules()):
        return
    processes, parts = run.accelerator.num_processes, optimiser.accumulate
    if processes > 1 and run.accelerator.device.type == "cuda" and optimiser.sync_batchnorm:
        nn.SyncBatchNorm.convert_sync_batchnorm(student)
        processes = 1
    if processes > 1:
        logger.warning(
            "batch norm sees %d images, those of one of %d processes; results differ from those of one process%s",
            optimiser.batch_size // (processes * parts),
            processes,
            "" if optimiser.sync_batchnorm else " (optimiser.sync_batchnorm=false)",
        )
    elif parts > 1:
        logger.warning(
            "batch norm sees %d images, one of %d parts of a batch; results differ from optimiser.accumulate=1",
            optimiser.batch_size // parts,
            parts,
        )


def choose_synchronisation(
    distiller: Distiller,
    plan: TrainingPlan,
    targets: tuple[Target, ...],
    *,
    inputs: tuple[Target, ...],
    frozen: frozenset[str],
) -> None:
    """Makes processes search for parameters without gradient only if some stage has any: the search takes time."""
    from accelerate import DistributedDataParallelKwargs

    run, size = plan.run, (plan.run.recipe.image_size,) * 2
    shapes = [(target.channels, *target.grid) for target in inputs] or [(3, *size)]
    batch = [torch.zeros(2, *shape, device=run.accelerator.device) for shape in shapes]
    stages = [span for span in plan.spans if span.stage.runs]
    unused = not all(
        reaches_all(distiller, span, targets, inputs=tuple(batch) if inputs else batch[0], size=size, kept=frozen)
        for span in stages
    )
    run.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=unused)


def saved_modules(model: nn.Module, average: AveragedModel | None) -> dict[str, nn.Module]:
    """The modules in a checkpoint, by name."""
    return {"model": model} if average is None else {"model": model, "average": average}


def save(state: TrainingState) -> None:
    """Writes the checkpoint on the first process."""
    accelerator, counters = state.run.accelerator, state.counters
    counters.seconds = time.monotonic() - state.began
    if accelerator.is_main_process:
        modules = saved_modules(accelerator.unwrap_model(state.model), state.average)
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
        record = {"state": asdict(counters), "scaler": scaler, "log": state.log.digest()}
        save_checkpoint(checkpoint_of(state.run), modules, state.optimiser.optimizer, record)
