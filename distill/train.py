"""Training: one loop, read downwards. What changes over time stands in the recipe's stages."""

from __future__ import annotations

import json
import logging
import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import cache
import students
from distill.checkpoint import load_checkpoint, save_checkpoint, save_tensors
from distill.data.loader import Batches, TrainingSet, loader
from distill.distiller import Distiller, Target, plan_targets
from distill.evaluate import validate
from distill.files import write_json, write_text
from distill.grammar import dump_recipe
from distill.job import Job, as_job
from distill.journal import Journal
from distill.objective import terms_of
from distill.prepare import check, create_student, open_caches
from distill.progress import Progress, clock
from distill.recipe import PARTS, Recipe
from distill.schedule import Span, learning_rate_at, spans_of

CHECKPOINT_EVERY_SECONDS = 60.0
LOG_EVERY_STEPS = 25
SEED_STRIDE = 1_000_003  # between the streams of two steps, so that those of two seeds do not meet

logger = logging.getLogger("bandpass")


@dataclass
class State:
    """Where training stands; saved with every checkpoint."""

    step: int = 0
    best: float = -1.0  # validation Dice
    best_step: int = 0
    seconds: float = 0.0


@dataclass
class Course:
    """What the loop works with."""

    job: Job
    targets: tuple[Target, ...]
    student: students.Student
    model: nn.Module  # the distiller as Accelerate wraps it
    optimiser: Any  # Accelerate's wrapper of AdamW
    dataset: TrainingSet
    spans: tuple[Span, ...]
    per_epoch: int  # steps
    state: State
    journal: Journal
    bar: Progress

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return self.spans[-1].stop


def train(work: Job | Recipe) -> dict[str, Any]:
    """Trains the student of a job and returns the summary in `train.json`; at once where that is there already.

    Continues bit-exactly from the last checkpoint after a kill: every random draw hangs on (seed, epoch, sample), the
    schedule on the step. The student that scored best on validation is kept in `job.weights`.

    Raises:
        FileNotFoundError: a cache is missing or does not hold every training image in every view drawn.
        ValueError: the student or the processes do not fit the recipe, or the loss is no longer finite.
    """
    job = as_job(work)
    if not job.agree(job.trained.is_file):
        with cache.lock(job.folder) if job.accelerator.is_main_process else nullcontext():
            if not job.agree(job.trained.is_file):  # by the training that this one waited for
                return run_course(begin(job))
    logger.info("trained already: %s", job.folder)
    return json.loads(job.trained.read_text(encoding="utf-8"))


def run_course(course: Course) -> dict[str, Any]:
    """Every stage in turn; writes and returns the summary."""
    job = course.job
    began = time.monotonic() - course.state.seconds
    with course.bar:
        for span in course.spans:
            run_stage(course, span, began=began)
    course.state.seconds = time.monotonic() - began
    summary = {
        "steps": course.total,
        "epochs": course.total / course.per_epoch,
        "validation_dice": course.state.best,
        "best_step": course.state.best_step,
        "seconds": round(course.state.seconds, 1),
        "targets": [target.name for target in course.targets],
    }
    if job.accelerator.is_main_process:
        write_json(job.trained, summary)
        checkpoint_of(job).unlink(missing_ok=True)
    job.accelerator.wait_for_everyone()
    logger.info(
        "trained %d steps in %s; best validation Dice %.3f at step %d",
        course.total,
        clock(course.state.seconds),
        course.state.best,
        course.state.best_step,
    )
    return summary


def begin(job: Job) -> Course:
    """Opens the caches, builds student and optimiser, and puts them where the last checkpoint left them."""
    recipe, accelerator = job.recipe, job.accelerator
    lead = accelerator.is_main_process
    check(job)
    torch.backends.cudnn.deterministic = True  # a continued run must end where an uninterrupted one does
    if lead:
        write_text(job.folder / "recipe.yaml", dump_recipe(recipe))
    caches = open_caches(job)
    student = create_student(recipe)
    targets = plan_targets(recipe, caches, student)
    distiller = Distiller(student, targets).to(accelerator.device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        distiller.parameters(), lr=recipe.optimiser.learning_rate, weight_decay=recipe.optimiser.weight_decay
    )
    state = State()
    saved: dict[str, Any] = {}
    if job.agree(checkpoint_of(job).is_file):
        saved = load_checkpoint(checkpoint_of(job), distiller, optimiser)
        state = State(**saved["state"])
        logger.info("continuing at step %d from %s", state.step, checkpoint_of(job))
    model, wrapped = accelerator.prepare(distiller, optimiser)
    if accelerator.scaler is not None and saved.get("scaler"):
        accelerator.scaler.load_state_dict(saved["scaler"])
    dataset = TrainingSet(job.splits.train, recipe, caches)
    dataset.keep_in_memory()
    per_epoch = Batches.per_epoch(len(dataset), recipe.optimiser.batch_size)
    spans = spans_of(recipe, per_epoch)
    journal = Journal(job.folder / "log.jsonl", step=state.step, writes=lead)
    bar = Progress("train", total=spans[-1].stop, unit="steps", shown=lead, done=state.step)
    return Course(job, targets, student, model, wrapped, dataset, spans, per_epoch, state, journal, bar)


def run_stage(course: Course, span: Span, *, began: float) -> None:
    """The steps of one stage that are not done yet; logs, scores and saves on the way."""
    job, state = course.job, course.state
    start = max(span.start, state.step)
    if start >= span.stop:
        return
    course.dataset.targets = tuple(target for target in course.targets if target.term in span.terms)
    batches = Batches(
        images=len(course.dataset),
        batch=job.recipe.optimiser.batch_size,
        seed=job.recipe.seed,
        start=start,
        stop=span.stop,
        rank=job.accelerator.process_index,
        ranks=job.accelerator.num_processes,
    )
    score_every = max(1, round(job.recipe.evaluate.every * course.per_epoch))
    set_frozen(course.student, span.stage.freeze)
    sums: dict[str, Tensor] = {}
    since, saved = start, time.monotonic()
    for step, batch in enumerate(loader(course.dataset, batches, workers=job.recipe.workers), start=start):
        for name, term in learn(course, span, step, batch).items():
            sums[name] = sums.get(name, 0) + term.detach().float()
        state.step = step + 1
        note, pause = "", state.step % LOG_EVERY_STEPS == 0 or state.step == span.stop
        if pause:
            note = say_terms(course, span, {name: float(value) / (state.step - since) for name, value in sums.items()})
            sums, since = {}, state.step
        if state.step % score_every == 0 or state.step == course.total:
            note = score(course, span)
        course.bar.update(note=note)
        due = pause and time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS
        if due or state.step == span.stop:
            save(course, seconds=time.monotonic() - began)
            saved = time.monotonic()


def learn(course: Course, span: Span, step: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """One step of the optimiser; returns the terms and their weighted sum, `loss`."""
    recipe, accelerator = course.job.recipe, course.job.accelerator
    torch.manual_seed(recipe.seed + SEED_STRIDE * (step + 1))  # what a layer draws hangs on the step alone
    for group in course.optimiser.param_groups:
        group["lr"] = learning_rate_at(step, course.total, recipe.optimiser) * span.stage.learning_rate
    batch = {name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in batch.items()}
    images = batch["image"].contiguous(memory_format=torch.channels_last)
    targets = course.dataset.targets
    with accelerator.autocast():
        logits, projected = course.model(images, tuple(target.name for target in targets))
    terms = terms_of(span, targets, logits=logits, projected=projected, batch=batch)
    loss = torch.stack([span.stage.losses[name] * term for name, term in terms.items()]).sum()
    accelerator.backward(loss)
    if recipe.optimiser.gradient_clip:
        accelerator.clip_grad_norm_(course.model.parameters(), recipe.optimiser.gradient_clip)
    course.optimiser.step()
    course.optimiser.zero_grad()
    return {"loss": loss, **terms}


def say_terms(course: Course, span: Span, means: dict[str, float]) -> str:
    """Logs the mean of every term since the last time; returns a note for the progress line.

    Raises:
        ValueError: the loss is no longer finite.
    """
    step = course.state.step
    if not math.isfinite(means["loss"]):
        raise ValueError(
            f"the loss became {means['loss']} between steps {max(0, step - LOG_EVERY_STEPS)} and {step} of stage "
            f"{span.name!r}; lower optimiser.learning_rate, or use precision=fp32"
        )
    rate = course.optimiser.param_groups[0]["lr"]
    course.journal.add(step=step, stage=span.name, epoch=step / course.per_epoch, learning_rate=rate, **means)
    course.job.accelerator.log({f"{span.name}/{name}": value for name, value in means.items()}, step=step)
    return f"{span.name} loss {means['loss']:.3f}"


def score(course: Course, span: Span) -> str:
    """Scores the student on the validation images and keeps it where it is the best so far; returns a note."""
    job, state = course.job, course.state
    if job.accelerator.num_processes > 1:
        for buffer in course.student.buffers():  # each process has batch-norm statistics of its own; the first's count
            torch.distributed.broadcast(buffer, 0)
    dice = validate(
        course.student,
        job.splits.val,
        image_size=job.recipe.image_size,
        device=job.accelerator.device,
        accelerator=job.accelerator,
    )
    course.journal.add(step=state.step, stage=span.name, epoch=state.step / course.per_epoch, validation_dice=dice)
    job.accelerator.log({"validation/dice": dice}, step=state.step)
    if dice > state.best:
        state.best, state.best_step = dice, state.step
        if job.accelerator.is_main_process:
            save_tensors(course.student.state_dict(), job.weights)
    return f"{span.name} validation Dice {dice:.3f}"


def save(course: Course, *, seconds: float) -> None:
    """Writes the checkpoint on the first process."""
    accelerator = course.job.accelerator
    course.state.seconds = seconds
    if accelerator.is_main_process:
        model = accelerator.unwrap_model(course.model)
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
        state = {"state": asdict(course.state), "scaler": scaler}
        save_checkpoint(checkpoint_of(course.job), model, course.optimiser.optimizer, state)


def checkpoint_of(job: Job) -> Path:
    """The file that a killed run continues from; removed when training is complete."""
    return job.folder / "checkpoints" / "last.safetensors"


def set_frozen(student: students.Student, parts: list[str]) -> None:
    """Puts the student into training mode, the named parts at rest: no gradient, batch-norm statistics kept."""
    student.train()
    for name in PARTS:
        part: nn.Module = getattr(student, name)
        part.requires_grad_(name not in parts)
        part.train(name not in parts)
