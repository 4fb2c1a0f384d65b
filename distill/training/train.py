"""Training: one loop, read downwards. What changes over time stands in the recipe's stages."""

from __future__ import annotations

import json
import logging
import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

import cache
from distill.config.registry import BAND_OF, MASK_LOSSES, PARTS, TASK_LOSSES
from distill.config.schedule import Span, learning_rate_at, steps_of_score
from distill.config.schema import Recipe
from distill.distillation.collapse import Spread, spread
from distill.distillation.criterion import terms_of
from distill.distillation.dataset import Batches, loader
from distill.distillation.distiller import Target
from distill.evaluation.scoring import validate
from distill.runs.run import Run, as_run
from distill.runtime.io import write_json
from distill.runtime.progress import clock
from distill.runtime.threads import workers_beside
from distill.training.checkpoint import save_tensors
from distill.training.state import Course, begin, checkpoint_of, save

CHECKPOINT_EVERY_SECONDS = 60.0
LOG_EVERY_STEPS = 25
SEED_STRIDE = 1_000_003  # between the streams of two steps, so that those of two seeds do not meet

logger = logging.getLogger("bandpass")


def train(work: Run | Recipe) -> dict[str, Any]:
    """Trains the student of a run and returns the summary in `train.json`; at once where that is there already.

    Continues bit-exactly from the last checkpoint after a kill: every random draw hangs on (seed, epoch, sample), the
    schedule on the step. The student that scored best on validation is kept in `run.weights`.

    Raises:
        FileNotFoundError: a cache is missing or does not hold every training image in every view drawn; or the weights
            of a training that was complete have been removed.
        ValueError: the student or the processes do not fit the recipe, or the loss is no longer finite.
    """
    run = as_run(work)
    if run.agree(lambda: run.trained.is_file() and not run.weights.is_file()):
        run.require_trained()
    if not run.agree(run.trained.is_file):
        with cache.lock(run.folder) if run.accelerator.is_main_process else nullcontext():
            if not run.agree(run.trained.is_file):  # by the training that this one waited for
                return run_course(begin(run))
    logger.info("trained already: %s", run.folder)
    return json.loads(run.trained.read_text(encoding="utf-8"))


def run_course(course: Course) -> dict[str, Any]:
    """Every stage in turn; writes and returns the summary."""
    run = course.run
    began = time.monotonic() - course.state.seconds
    with course.bar:
        for span in course.spans:
            run_stage(course, span, began=began)
    course.state.seconds = time.monotonic() - began
    summary = {
        "steps": course.state.taken,
        "epochs": course.state.taken / course.spans[0].per_epoch,
        "validation_dice": course.state.best,
        "best_step": course.state.best_step,
        "seconds": round(course.state.seconds, 1),
        "targets": [target.name for target in course.targets],
        "collapsed": course.state.collapsed,
    }
    if run.accelerator.is_main_process:
        write_json(run.trained, summary)
        checkpoint_of(run).unlink(missing_ok=True)
    run.accelerator.wait_for_everyone()
    logger.info(
        "trained %d steps in %s; best validation Dice %.3f at step %d",
        course.state.taken,
        clock(course.state.seconds),
        course.state.best,
        course.state.best_step,
    )
    return summary


def run_stage(course: Course, span: Span, *, began: float) -> None:
    """The steps of one stage that are not done yet; logs, scores and saves on the way."""
    run, state = course.run, course.state
    start = max(span.start, state.step)
    if start >= span.stop:
        return
    if start == span.start:
        state.stage_best, state.stale = -1.0, 0
    bands = {BAND_OF[term] for term in span.terms if term in BAND_OF}
    course.dataset.targets = tuple(target for target in course.targets if target.band in bands)
    score_every = steps_of_score(span, run.recipe)
    set_frozen(course.student, span.stage.freeze)
    sums: dict[str, Tensor] = {}
    since, saved = start, time.monotonic()
    workers = workers_beside(run.accelerator.device, asked=run.recipe.workers)
    batches = loader(course.dataset, batches_of(course, span, start=start), workers=workers)
    for step, batch in enumerate(batches, start=start):
        scores = (step + 1) % score_every == 0 or step + 1 == course.total
        pause = (step + 1) % LOG_EVERY_STEPS == 0 or step + 1 == span.stop or (scores and judges(course, span))
        terms, spreads = learn(course, span, step, batch, watch=pause)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.detach().float()
        state.step, state.taken = step + 1, state.taken + 1
        note = ""
        if pause:
            means = means_of(course, sums, steps=state.step - since)
            note = say_terms(course, span, means, spreads)
            sums, since = {}, state.step
        if scores:
            note = score(course, span)
        course.bar.update(note=note)
        ends = state.step == span.stop or is_stale(course, span)
        if ends:
            end_stage(course, span, spreads)
        if ends or (pause and time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS):
            save(course, seconds=time.monotonic() - began)
            saved = time.monotonic()
        if ends:
            return


def means_of(course: Course, sums: dict[str, Tensor], *, steps: int) -> dict[str, float]:
    """Every term's mean over so many steps and over the processes, which so agree on whether the loss is finite."""
    accelerator = course.run.accelerator
    means = torch.stack(list(sums.values())) / steps
    if accelerator.num_processes > 1:
        means = accelerator.reduce(means, reduction="mean")
    return dict(zip(sums, means.tolist(), strict=True))


def batches_of(course: Course, span: Span, *, start: int) -> Batches:
    """This process's batches of a stage from step `start` on."""
    run = course.run
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


def judges(course: Course, span: Span) -> bool:
    """Whether validation may end the stage: of a stage that trains no logits, Dice says nothing."""
    trained = {*TASK_LOSSES, *MASK_LOSSES}.intersection(span.terms)
    return bool(course.run.recipe.evaluate.patience and trained)


def is_stale(course: Course, span: Span) -> bool:
    """Whether the stage should end early; says so."""
    patience, state = course.run.recipe.evaluate.patience, course.state
    if not judges(course, span) or state.stale < patience or state.step >= span.stop:
        return False
    logger.info("stage %r ends at step %d: no better score for %d scores", span.name, state.step, state.stale)
    return True


def end_stage(course: Course, span: Span, spreads: dict[str, Spread]) -> None:
    """Moves on to the next stage; says which projections have collapsed."""
    course.state.step = span.stop
    for name, figures in spreads.items():
        if figures.collapsed:
            course.state.collapsed.append(f"{span.name}: {name}")
            logger.warning(
                "the projection of %s has collapsed (variance %.3g of the target's %.3g, effective rank %.1f of %.1f): "
                "the student says nearly the same everywhere, and stage %r teaches nothing there",
                name,
                figures.variance,
                figures.target_variance,
                figures.rank,
                figures.target_rank,
                span.name,
            )


def learn(
    course: Course, span: Span, step: int, batch: dict[str, Tensor], *, watch: bool = False
) -> tuple[dict[str, Tensor], dict[str, Spread]]:
    """One step of the optimiser.

    Returns:
        The terms and their weighted sum, `loss`; if `watch`, how much targets and projections vary.
    """
    recipe, accelerator = course.run.recipe, course.run.accelerator
    torch.manual_seed(recipe.seed + SEED_STRIDE * (step + 1))  # what a layer draws hangs on the step alone
    for group in course.optimiser.param_groups:
        factor = span.stage.lr_scale * span.stage.part_lr_scale.get(group["part"], 1.0)
        group["lr"] = learning_rate_at(step, course.total, recipe.optimiser) * factor
    batch = {name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in batch.items()}
    size = (int(batch["mask"].shape[-2]), int(batch["mask"].shape[-1]))
    targets = course.dataset.targets
    with accelerator.autocast():
        logits, projected = course.model(course.inputs(batch), size, tuple(target.name for target in targets))
    terms = terms_of(span, targets, logits=logits, projected=projected, batch=batch)
    loss = torch.stack([span.stage.losses[name] * term for name, term in terms.items()]).sum()
    accelerator.backward(loss)
    if recipe.optimiser.gradient_clip:
        accelerator.clip_grad_norm_(course.model.parameters(), recipe.optimiser.gradient_clip)
    course.optimiser.step()
    course.optimiser.zero_grad()
    if course.average is not None:
        course.average.update_parameters(course.student)
    watch = watch and bool(torch.isfinite(loss))  # else `say_terms` says it; nothing else can be said of what is nan
    watched = [target for target in targets if watch and target.name in projected]
    spreads = {t.name: spread_of(course, span, t, projected[t.name], batch[t.name]) for t in watched}
    return {"loss": loss, **terms}, spreads


def spread_of(course: Course, span: Span, target: Target, projected: Tensor, wanted: Tensor) -> Spread:
    """How much a projection and its target vary, in the units of the terms that compare them."""
    if target.band == "high":
        wanted = wanted / target.deviation
    scaled = any(BAND_OF.get(name) == target.band and name != "relate" for name in span.terms)
    projection = course.run.accelerator.unwrap_model(course.model).projections[target.name]
    return spread(projected, wanted, scaled=scaled, channels=projection.in_channels)


def say_terms(course: Course, span: Span, means: dict[str, float], spreads: dict[str, Spread]) -> str:
    """Logs the mean of every term since the last time, and the spreads; returns a note for the progress line.

    Raises:
        ValueError: the loss is no longer finite.
    """
    step = course.state.step
    if not math.isfinite(means["loss"]):
        raise ValueError(
            f"the loss became {means['loss']} between steps {max(0, step - LOG_EVERY_STEPS)} and {step} of stage "
            f"{span.name!r}; lower optimiser.learning_rate, or use precision=fp32"
        )
    rate = max(group["lr"] for group in course.optimiser.param_groups)
    spreading = {"spread": {name: asdict(figures) for name, figures in spreads.items()}} if spreads else {}
    course.journal.add(step=step, stage=span.name, learning_rate=rate, **means, **spreading)
    course.run.accelerator.log({f"{span.name}/{name}": value for name, value in means.items()}, step=step)
    return f"{span.name} loss {means['loss']:.3f}"


def score(course: Course, span: Span) -> str:
    """Scores the student on the validation images and keeps it where it is the best so far; returns a note."""
    run, state = course.run, course.state
    if run.accelerator.num_processes > 1:
        for buffer in course.scored.buffers():  # each process has batch-norm statistics of its own; the first's count
            torch.distributed.broadcast(buffer, 0)
    dice = validate(course.scored, run, caches=course.dataset.caches)
    course.journal.add(step=state.step, stage=span.name, validation_dice=dice)
    run.accelerator.log({"validation/dice": dice}, step=state.step)
    state.stale = 0 if dice > state.stage_best else state.stale + 1
    state.stage_best = max(dice, state.stage_best)
    if dice > state.best:
        state.best, state.best_step = dice, state.step
        if run.accelerator.is_main_process:
            said = {"step": str(state.step), "validation_dice": repr(dice)}
            save_tensors(course.scored.state_dict(), run.weights, metadata=said)
    return f"{span.name} validation Dice {dice:.3f}"


def set_frozen(student: nn.Module, parts: list[str]) -> None:
    """Puts the student into training mode, the named parts at rest: no gradient, batch-norm statistics kept."""
    student.train()
    for name in PARTS:
        part: nn.Module = getattr(student, name)
        part.requires_grad_(name not in parts)
        part.train(name not in parts)
