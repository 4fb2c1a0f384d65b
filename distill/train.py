"""Training: one loop, read downwards. What changes over time stands in the recipe's stages."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import cache
import students
from distill import losses
from distill.checkpoint import load_checkpoint, save_checkpoint, save_tensors
from distill.data.loader import Batches, TrainingSet, loader
from distill.distiller import Distiller, Target, plan_targets
from distill.evaluate import validate
from distill.grammar import dump_recipe
from distill.job import Job, as_job, write_json
from distill.progress import Progress, clock
from distill.recipe import OptimiserRecipe, Recipe, StageRecipe

CHECKPOINT_EVERY_SECONDS = 60.0
LOG_EVERY_STEPS = 25

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Span:
    """A stage with the global steps [start, stop) that it covers."""

    name: str
    stage: StageRecipe
    start: int
    stop: int


def spans_of(recipe: Recipe, per_epoch: int) -> tuple[Span, ...]:
    """The stages laid end to end, in steps."""
    spans: list[Span] = []
    for name, stage in recipe.stages.items():
        start = spans[-1].stop if spans else 0
        spans.append(Span(name, stage, start, start + stage.epochs * per_epoch))
    return tuple(spans)


def learning_rate_at(step: int, total: int, optimiser: OptimiserRecipe) -> float:
    """Learning rate of a global step: linear warm-up from zero, then cosine to zero, (1 - t)^0.9, or constant."""
    warmup = round(optimiser.warmup * total)
    if step < warmup:
        return optimiser.learning_rate * (step + 1) / warmup
    passed = (step - warmup) / max(1, total - warmup)
    factor = {
        "cosine": 0.5 * (1 + math.cos(math.pi * passed)),
        "polynomial": (1 - passed) ** 0.9,
        "constant": 1.0,
    }[optimiser.schedule]
    return optimiser.learning_rate * factor


def set_frozen(student: students.Student, parts: list[str]) -> None:
    """Puts the student into training mode, the named parts at rest: no gradient, batch-norm statistics kept."""
    student.train()
    for name in ("encoder", "decoder", "head"):
        part: nn.Module = getattr(student, name)
        part.requires_grad_(name not in parts)
        part.train(name not in parts)


def terms_of(
    stage: StageRecipe,
    targets: tuple[Target, ...],
    *,
    logits: Tensor,
    projected: dict[str, Tensor],
    batch: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Every term of a stage, unweighted; an imitation term is the mean over its targets."""
    terms: dict[str, Tensor] = {}
    for name in active_terms(stage):
        if name == "segment":
            terms[name] = losses.segment(logits, batch["mask"])
        elif name == "boundary":
            terms[name] = losses.boundary(logits, batch["mask"])
        elif name == "imitate_low":
            parts = [losses.imitate_low(projected[t.name], batch[t.name]) for t in targets if t.term == name]
            terms[name] = torch.stack(parts).mean()
        else:
            parts = [
                losses.imitate_high(projected[t.name], batch[t.name], deviation=t.deviation)
                for t in targets
                if t.term == name
            ]
            terms[name] = torch.stack(parts).mean()
    return terms


def active_terms(stage: StageRecipe) -> list[str]:
    """The terms of positive weight."""
    return [name for name, weight in stage.losses.items() if weight > 0]


def create_student(recipe: Recipe) -> students.Student:
    """The student to train: fresh from the seed, or from a published one (`student.init`).

    Raises:
        ValueError: the published student is of another shape than the recipe asks for.
    """
    torch.manual_seed(recipe.seed)
    wanted = recipe.student
    student = students.create(wanted.name, width=wanted.width, classes=wanted.classes, **wanted.options)
    if wanted.init is None:
        return student
    weights = students.load(wanted.init).state_dict()
    own = student.state_dict()
    kept = {k: v for k, v in weights.items() if k in own and v.shape == own[k].shape}
    rebuilt = sorted(set(own) - set(kept))
    if any(not name.startswith("head.") for name in rebuilt):
        raise ValueError(
            f"student.init={wanted.init} does not fit student {wanted.name} of width {wanted.width}: "
            f"{len(rebuilt)} tensors differ, first {rebuilt[0]}; give the name and width it was trained with"
        )
    student.load_state_dict(kept, strict=False)
    return student


class Log:
    """log.jsonl: one JSON object a line; on resume, lines after the checkpoint are dropped first."""

    def __init__(self, path: Path, *, step: int, write: bool) -> None:
        self.path, self.write = path, write
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def add(self, **entry: Any) -> None:  # noqa: ANN401
        """Appends one line."""
        if self.write:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")


def train(work: Job | Recipe) -> dict[str, Any]:
    """Trains the student of a job and returns the summary in `train.json`; at once where that is there already.

    Continues bit-exactly from the last checkpoint after a kill: every random draw hangs on (seed, epoch, sample), the
    schedule on the step. The student that scored best on validation is kept in `job.weights`.

    Raises:
        FileNotFoundError: a cache is missing or does not hold every training image in every view drawn.
        ValueError: the batch size cannot be shared by the processes, or the loss is no longer finite.
    """
    job = as_job(work)
    recipe, accelerator = job.recipe, job.accelerator
    done = job.folder / "train.json"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    if recipe.optimiser.batch_size % accelerator.num_processes:
        raise ValueError(
            f"optimiser.batch_size is {recipe.optimiser.batch_size}, but must be a multiple of the "
            f"{accelerator.num_processes} processes"
        )
    lead = accelerator.is_main_process
    if lead:
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")

    caches = open_caches(job)
    student = create_student(recipe)
    targets = plan_targets(recipe, caches, student)
    distiller = Distiller(student, targets).to(accelerator.device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        distiller.parameters(), lr=recipe.optimiser.learning_rate, weight_decay=recipe.optimiser.weight_decay
    )
    checkpoint = job.folder / "checkpoints" / "last.safetensors"
    state: dict[str, Any] = {"step": 0, "best": -1.0, "best_step": 0, "seconds": 0.0}
    if checkpoint.is_file():
        state = load_checkpoint(checkpoint, distiller, optimiser)
        logger.info("continuing at step %d from %s", state["step"], checkpoint)
    model, optimiser = accelerator.prepare(distiller, optimiser)

    dataset = TrainingSet(job.splits.train, recipe, caches)
    dataset.keep_in_memory()
    per_epoch = Batches.per_epoch(len(dataset), recipe.optimiser.batch_size)
    spans = spans_of(recipe, per_epoch)
    total = spans[-1].stop
    log = Log(job.folder / "log.jsonl", step=state["step"], write=lead)
    bar = Progress("train", total=total, unit="steps", shown=lead, done=state["step"])
    began = saved = time.monotonic() - state["seconds"]

    for span in spans:
        start = max(span.start, state["step"])
        if start >= span.stop:
            continue
        dataset.targets = tuple(t for t in targets if t.term in active_terms(span.stage))
        names = tuple(t.name for t in dataset.targets)
        batches = Batches(
            images=len(dataset),
            batch=recipe.optimiser.batch_size,
            seed=recipe.seed,
            start=start,
            stop=span.stop,
            rank=accelerator.process_index,
            ranks=accelerator.num_processes,
        )
        sums: dict[str, Tensor] = {}
        since = start
        for step, batch in enumerate(loader(dataset, batches, workers=recipe.workers), start=start):
            torch.manual_seed(
                recipe.seed + 1_000_003 * (step + 1)
            )  # what a layer draws hangs on the step alone
            set_frozen(student, span.stage.freeze)
            rate = learning_rate_at(step, total, recipe.optimiser) * span.stage.learning_rate
            for group in optimiser.param_groups:
                group["lr"] = rate
            batch = {name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in batch.items()}
            with accelerator.autocast():
                logits, projected = model(batch["image"], names)
            terms = terms_of(span.stage, dataset.targets, logits=logits, projected=projected, batch=batch)
            loss = sum(
                (span.stage.losses[name] * term for name, term in terms.items()), torch.zeros(()).to(logits)
            )
            accelerator.backward(loss)
            if recipe.optimiser.gradient_clip:
                accelerator.clip_grad_norm_(model.parameters(), recipe.optimiser.gradient_clip)
            optimiser.step()
            optimiser.zero_grad()
            for name, term in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, torch.zeros(())) + term.detach().float().cpu()

            ends = step + 1
            note = ""
            if ends % LOG_EVERY_STEPS == 0 or ends == span.stop:
                means = {name: float(value) / (ends - since) for name, value in sums.items()}
                if not math.isfinite(means["loss"]):
                    raise ValueError(
                        f"the loss became {means['loss']} between steps {since} and {ends} of stage {span.name!r}; "
                        "lower optimiser.learning_rate, or use precision=no"
                    )
                log.add(step=ends, stage=span.name, epoch=ends / per_epoch, learning_rate=rate, **means)
                accelerator.log({f"{span.name}/{name}": value for name, value in means.items()}, step=ends)
                note, sums, since = f"{span.name} loss {means['loss']:.3f}", {}, ends
            if ends % max(1, round(recipe.evaluate.every * per_epoch)) == 0 or ends == total:
                dice = validate(
                    student, job.splits.val, image_size=recipe.image_size, device=accelerator.device
                )
                log.add(step=ends, stage=span.name, epoch=ends / per_epoch, validation_dice=dice)
                accelerator.log({"validation/dice": dice}, step=ends)
                note = f"{span.name} validation Dice {dice:.3f}"
                if dice > state["best"]:
                    state |= {"best": dice, "best_step": ends}
                    if lead:
                        save_tensors(student.state_dict(), job.weights)
            bar.update(note=note)
            now = time.monotonic()
            due = ends % LOG_EVERY_STEPS == 0 and now - saved > CHECKPOINT_EVERY_SECONDS
            if lead and (due or ends == span.stop):
                state |= {"step": ends, "seconds": now - began}
                save_checkpoint(checkpoint, accelerator.unwrap_model(model), optimiser.optimizer, state)
                saved = now
    bar.__exit__()

    summary = {
        "steps": total,
        "epochs": total / per_epoch,
        "validation_dice": state["best"],
        "best_step": state["best_step"],
        "seconds": round(time.monotonic() - began, 1),
        "targets": [target.name for target in targets],
    }
    if lead:
        write_json(done, summary)
        checkpoint.unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    logger.info(
        "trained %d steps in %s; best validation Dice %.3f at step %d",
        total,
        clock(summary["seconds"]),
        state["best"],
        state["best_step"],
    )
    return summary


def open_caches(job: Job) -> dict[str, cache.Cache]:
    """The caches that the recipe's stages learn from, each checked to hold every training image in every view drawn.

    Raises:
        FileNotFoundError: a cache is missing or incomplete.
    """
    opened: dict[str, cache.Cache] = {}
    for name, path in job.caches.items() if job.recipe.imitates else ():
        if not (path / "manifest.json").is_file():
            raise FileNotFoundError(f"no features of teacher {name!r} at {path}; run do=extract first")
        opened[name] = cache.open(path)
        wanted = [(s.key, view) for s in job.splits.train for view in job.recipe.augment.views]
        missing = sum(record not in opened[name] for record in wanted)
        if missing:
            raise FileNotFoundError(
                f"{path} lacks {missing} of {len(wanted)} records (images times views) of teacher {name!r}; "
                "run do=extract to add them"
            )
    return opened
