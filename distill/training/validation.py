"""Scores on the validation images: the best weights are kept, and a stage without progress ends early."""

from __future__ import annotations

import logging

import torch

from distill.config.schedule import Span
from distill.evaluation.scoring import validate
from distill.metrics.names import LOWER_IS_BETTER
from distill.runtime.tensor_files import write_tensors
from distill.training.checkpoint import read_own, run_of
from distill.training.parameters import trains_logits
from distill.training.state import TrainingState

logger = logging.getLogger("bandpass")


def keep_best(state: TrainingState, span: Span) -> str:
    """Scores the student on the validation images and keeps its weights if they are the best so far; returns a note."""
    run, counters, select = state.run, state.counters, state.run.recipe.evaluate.select
    network = state.scored
    if run.accelerator.num_processes > 1:
        for buffer in network.buffers():  # batch-norm statistics differ between processes; the first's count
            torch.distributed.broadcast(buffer, 0)
    figures = validate(network, run, caches=state.plan.caches, select=select)
    dice, chosen = figures["dice"], figures[select]
    state.log.add(step=counters.step, stage=span.name, **{f"validation_{name}": x for name, x in figures.items()})
    run.accelerator.log({f"validation/{name}": value for name, value in figures.items()}, step=counters.step)
    quality = -chosen if select in LOWER_IS_BETTER else chosen
    counters.stale = 0 if quality > counters.stage_best else counters.stale + 1
    counters.stage_best = max(quality, counters.stage_best)
    if quality > counters.best and may_be_kept(state, span):
        counters.best, counters.best_step = quality, counters.step
        counters.best_dice = None if select == "dice" else dice
        if run.accelerator.is_main_process:
            record = {"step": counters.step, "best": quality, "validation_dice": dice, "run": run_of(run.weights)}
            write_tensors(run.weights, network.state_dict(), record)
    return f"{span.name} validation Dice {dice:.3f}"


def may_be_kept(state: TrainingState, span: Span) -> bool:
    """Whether weights of a stage may be kept: those of any stage, or only those of the last."""
    return state.run.recipe.evaluate.select_from == "all" or span is state.plan.last


def restore_best(state: TrainingState) -> None:
    """Takes the score of the best weights as the best so far if they are from a later step than the checkpoint.

    Weights are written at every better score, checkpoints now and then. Without this, steps that are repeated after a
    kill and turn out differently (on a GPU, with another number of processes) could leave weights with the score of
    another step.

    Raises:
        ValueError: the file is damaged.
    """
    weights, counters = state.run.weights, state.counters
    if not weights.is_file():
        return
    _, record = read_own(weights, cure=f"delete the folder {weights.parent} to train from the start")
    if int(record.get("step", 0)) > counters.step:
        dice = float(record["validation_dice"])
        counters.best, counters.best_step = float(record.get("best", dice)), int(record["step"])
        counters.best_dice = None if state.run.recipe.evaluate.select == "dice" else dice


def uses_early_stopping(state: TrainingState, span: Span) -> bool:
    """Whether validation may end a stage."""
    return bool(state.run.recipe.evaluate.patience) and trains_logits(span)


def is_stale(state: TrainingState, span: Span) -> bool:
    """Whether a stage should end early; logs that it does."""
    patience, counters = state.run.recipe.evaluate.patience, state.counters
    if not uses_early_stopping(state, span) or counters.stale < patience or counters.step >= span.stop:
        return False
    logger.info("stage %r ends at step %d: no better score for %d scores", span.name, counters.step, counters.stale)
    return True
