"""Training: one loop, to be read from top to bottom. What changes over time is in the recipe's stages."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cache
from distill.config.parse import write_recipe
from distill.config.schedule import Span, learning_rate_at, steps_of_score
from distill.data.erase import shows_object
from distill.distillation.criterion import compute_losses, divisors_of_parts
from distill.distillation.device_targets import decode_targets
from distill.distillation.feature_variance import FeatureVariance, variances_of
from distill.distillation.loading import loader
from distill.distillation.mean_teacher import taught
from distill.distillation.sampler import Batches
from distill.metrics.names import LOWER_IS_BETTER
from distill.runs.run import LOG, Run
from distill.runs.weights import DIGEST, read_trained
from distill.runtime.hardware import precision_here
from distill.runtime.issues import several
from distill.runtime.progress import clock
from distill.runtime.signals import TERMINATED, signals_deferred
from distill.runtime.tensor_files import digest_tensors, read_tensors
from distill.runtime.threads import workers_beside
from distill.training.checkpoint import checkpoint_of, remove_checkpoints
from distill.training.gradient_share import MEASURE_EVERY_STEPS, balanced
from distill.training.log_losses import LOG_EVERY_STEPS, RunningMeans, log_collapsed, log_losses
from distill.training.parameters import forget_frozen, set_frozen
from distill.training.plan import TrainingPlan, plan_training
from distill.training.state import TrainingState, build_state, save
from distill.training.validation import is_stale, keep_best, restore_best, uses_early_stopping

CHECKPOINT_EVERY_SECONDS = 60.0
SEED_STRIDE = 1_000_003  # between the random streams of two steps; those of seeds closer than this do not overlap
RANK_STRIDE = 1 << 40  # between the random streams of two processes

logger = logging.getLogger("bandpass")


def train(run: Run) -> dict[str, Any]:
    """Trains the student of a run and returns the summary in `train.json`; returns at once if the run is trained.

    After a kill it continues bit-exactly from the last checkpoint: every random draw depends on (seed, epoch, sample),
    the schedule on the step. The student with the best validation score is kept in `run.weights`.

    Raises:
        FileNotFoundError: a cache is missing or does not hold every training image in every view drawn; or the weights
            of a complete training have been removed.
        ValueError: the student or the processes do not fit the recipe, the loss is no longer finite, or a file of the
            run is damaged.
        SystemExit: with status 143 after SIGTERM, once a checkpoint has been saved.
        KeyboardInterrupt: after SIGINT, likewise.
    """
    trained = run.agree(run.trained.is_file)
    with cache.lock(run.folder) if run.accelerator.is_main_process and not trained else nullcontext():
        if trained or run.agree(run.trained.is_file):  # the latter if this one waited for another training
            summary, _ = run.once_listed(lambda: read_trained(run))
            logger.info("trained already: %s", run.folder)
            return summary
        plan = plan_training(run)
        if run.accelerator.is_main_process:
            write_recipe(run.recipe, run.folder)
        return run_stages(plan)


def run_stages(plan: TrainingPlan) -> dict[str, Any]:
    """Runs every stage in turn; writes and returns the summary."""
    run, state = plan.run, build_state(plan)
    restore_best(state)
    asked = run.recipe.precision
    if (computed := precision_here(asked)) != asked:
        logger.info("precision is %s: this machine would have to emulate %s", computed, asked)
    with state.bar, signals_deferred() as stopping:
        for span in plan.spans:
            run_stage(state, span, stopping=stopping)
    summary = summarise(state)
    if run.accelerator.is_main_process:
        run.write_own(run.trained, {**summary, LOG: state.log.digest()})
        summary = run.read_summary()
        remove_checkpoints(checkpoint_of(run))
    run.wait()
    taken, best, step = summary["steps"], summary["validation_dice"], summary["best_step"]
    spent, select = clock(summary["seconds"]), run.recipe.evaluate.select
    chosen = "best validation Dice" if select == "dice" else f"best validation {select}, with Dice"
    logger.info("trained %s in %s; %s %.3f at step %d", several(taken, "step"), spent, chosen, best, step)
    if run.accelerator.is_main_process and best <= dice_of_nothing(run):
        logger.warning("the student finds nothing on the validation images: train longer, or look at the losses in %s",
                       run.folder / "log.jsonl")  # fmt: skip
    return summary


def dice_of_nothing(run: Run) -> float:
    """The mean validation Dice of empty predictions: 1 for each image without an object, 0 for the others."""
    return float(np.mean([not shows_object(sample.read_mask()) for sample in run.validation]))


def summarise(state: TrainingState) -> dict[str, Any]:
    """The content of train.json."""
    counters, seconds = state.counters, time.monotonic() - state.began
    select = state.run.recipe.evaluate.select
    chosen = -counters.best if select in LOWER_IS_BETTER else counters.best
    weights = state.run.agree(lambda: digest_tensors(read_tensors(state.run.weights, cure="train again")[0]))
    return {
        "steps": counters.taken,
        "epochs": counters.taken / state.plan.spans[0].per_epoch,
        "validation_dice": counters.best if counters.best_dice is None else counters.best_dice,
        f"validation_{select}": chosen,
        "best_step": counters.best_step,
        "seconds": round(seconds, 1),
        "precision": precision_here(state.run.recipe.precision),
        "targets": [target.name for target in state.targets],
        "collapsed": counters.collapsed,
        "processes": state.run.accelerator.num_processes,
        DIGEST: weights,
    }


def run_stage(state: TrainingState, span: Span, *, stopping: Callable[[], bool] = lambda: False) -> None:
    """Runs the remaining steps of one stage; logs, scores and saves on the way."""
    counters = state.counters
    if counters.step >= span.stop:
        return
    begin_stage(state, span)
    means, saved = RunningMeans.of(counters), time.monotonic()
    for step, batch in enumerate(load_batches(state, span), start=counters.step):
        done = step + 1
        scored = done % steps_of_score(span, state.run.recipe) == 0 or done == state.plan.steps
        logged = done % LOG_EVERY_STEPS == 0 or done == span.stop
        logged = logged or (scored and uses_early_stopping(state, span))
        terms, variances = train_step(state, span, step, batch, watch=logged)
        means.add(terms)
        counters.step, counters.taken = done, counters.taken + 1
        note = log_losses(state, span, means.take(state.run.accelerator), variances) if logged else ""
        note = keep_best(state, span) if scored else note
        state.bar.update(note=note)
        ended = counters.step == span.stop or is_stale(state, span)
        if ended:
            counters.step = span.stop
            log_collapsed(state, span, variances)
        stopped = must_stop(state, stopping, logged=logged)
        if ended or stopped or (logged and time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS):
            means.keep(counters)
            save(state)
            saved = time.monotonic()
        if stopped:
            logger.warning("saved step %d of %d in %s", counters.step, state.plan.steps, checkpoint_of(state.run))
            raise SystemExit(TERMINATED)
        if ended:
            return


def begin_stage(state: TrainingState, span: Span) -> None:
    """Freezes the stage's frozen parts, drops their AdamW moments, and selects the stage's targets."""
    counters = state.counters
    if counters.step <= span.start:
        counters.step, counters.stage_best, counters.stale, counters.gradient_ratio = span.start, -math.inf, 0, None
    state.dataset.targets = tuple(target for target in state.targets if target.band in span.bands)
    state.dataset.plain = span.stage.averages
    set_frozen(state.student, span.stage.freeze, kept=state.frozen)
    forget_frozen(state.optimiser.optimizer)


def load_batches(state: TrainingState, span: Span) -> Iterator[dict[str, Tensor]]:
    """The remaining batches of a stage: tensors (N, ...) by name."""
    batches = batches_of(state, span, start=state.counters.step)
    workers = workers_beside(state.run.accelerator.device, asked=state.run.recipe.workers)
    return loader(state.dataset, batches, workers=workers)


def batches_of(state: TrainingState, span: Span, *, start: int) -> Batches:
    """This process's index batches of a stage from step `start` on."""
    run = state.run
    return Batches(
        images=len(run.splits.train),
        batch=run.recipe.optimiser.batch_size,
        seed=run.recipe.seed,
        start=start,
        stop=span.stop,
        rank=run.accelerator.process_index,
        ranks=run.accelerator.num_processes,
        unlabelled=len(run.splits.unlabelled),
        share=span.unlabelled,
        sides=run.recipe.sides if run.recipe.sides != (run.recipe.image_size,) else (),
        origin=span.origin,
    )


def must_stop(state: TrainingState, stopping: Callable[[], bool], *, logged: bool) -> bool:
    """Whether a signal has come; several processes all-reduce this when they log, so that all stop at the same step."""
    accelerator = state.run.accelerator
    if accelerator.num_processes == 1:
        return stopping()
    if not logged:
        return False
    flag = torch.tensor(float(stopping()), device=accelerator.device)
    return bool(accelerator.reduce(flag, reduction="sum") > 0)


def train_step(
    state: TrainingState, span: Span, step: int, batch: dict[str, Tensor], *, watch: bool = False
) -> tuple[dict[str, Tensor], dict[str, FeatureVariance]]:
    """Does one step of the optimiser on a batch: tensors (N, ...) by name.

    Returns:
        The unweighted terms and their weighted sum, `loss`, scalars; if `watch`, variances of targets and projections.
    """
    recipe, accelerator = state.run.recipe, state.run.accelerator
    # The random draws of layers, such as dropout, depend on the step and the process alone.
    torch.manual_seed(recipe.seed + SEED_STRIDE * (step + 1) + RANK_STRIDE * accelerator.process_index)
    batch = {name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in batch.items()}
    if state.dataset.on_device:
        batch = decode_targets(batch, (*state.dataset.inputs, *state.dataset.targets), state.dataset.caches)
    if span.stage.averages:
        with accelerator.autocast():
            batch = taught(batch, state.averaged_student.eval(), cutmix=recipe.augment.cutmix)
    terms, projected, part = backward(state, span, batch, measure=step % MEASURE_EVERY_STEPS == 0)
    variances: dict[str, FeatureVariance] = {}
    if watch and torch.isfinite(terms["loss"]):  # else `log_losses` refuses the loss, and nothing is measured
        distiller = accelerator.unwrap_model(state.model)
        variances = variances_of(distiller, state.dataset.targets, projected=projected, batch=part)
    start, stop = span.schedule
    for group in state.optimiser.param_groups:
        factor = span.stage.lr_scale * span.stage.part_lr_scale.get(group["part"], 1.0)
        group["lr"] = learning_rate_at(step - start, stop - start, recipe.optimiser) * factor
    if recipe.optimiser.gradient_clip:
        accelerator.clip_grad_norm_(state.model.parameters(), recipe.optimiser.gradient_clip)
    state.optimiser.step()
    state.optimiser.zero_grad()
    if state.average is not None and not state.optimiser.step_was_skipped:  # as with fp16 when gradients overflow
        state.average.update_parameters(state.student)
    return terms, variances


def backward(
    state: TrainingState, span: Span, batch: dict[str, Tensor], *, measure: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Computes the gradient of a batch, whose parts (`optimiser.accumulate`) pass the network one after the other.

    With `imitate.gradient_share`, `measure` measures the gradients of both groups of terms on the first part.

    Returns:
        The unweighted terms and their weighted sum, `loss`, scalars; the projected features (N, C, h, w) of the last
        part; and that part.
    """
    recipe, accelerator, targets = state.run.recipe, state.run.accelerator, state.dataset.targets
    count, names = recipe.optimiser.accumulate, tuple(target.name for target in state.dataset.targets)
    parts = [{name: tensor[first::count] for name, tensor in batch.items()} for first in range(count)]
    masks, weights = [part["mask"] for part in parts], recipe.student.class_weights
    divisors = None
    if count > 1:
        divisors = divisors_of_parts(span, masks, classes=recipe.student.classes, class_weights=weights)
    found: list[dict[str, Tensor]] = []
    for part in parts:
        size = (int(part["mask"].shape[-2]), int(part["mask"].shape[-1]))
        # Processes exchange gradients once a step, after the last part.
        with nullcontext() if len(found) + 1 == count else accelerator.no_sync(state.model):
            with accelerator.autocast():
                logits, projected = state.model(state.inputs(part), size, names)
            terms = compute_losses(
                span,
                targets,
                logits=logits,
                projected=projected,
                batch=part,
                parameters=state.student.parameters(),
                divisors=divisors,
                class_weights=weights,
                temperature=recipe.imitate.temperature,
            )
            weighted = {name: span.stage.losses[name] * term for name, term in terms.items()}
            weighted, factor = balanced(state, weighted, measure=measure and not found)
            loss = torch.stack(list(weighted.values())).sum()
            accelerator.backward(loss / count)
        found.append({name: term.detach() for name, term in {"loss": loss, **terms, **factor}.items()})
    means = {name: torch.stack([terms[name] for terms in found]).mean() for name in found[0]}
    return means, projected, part
