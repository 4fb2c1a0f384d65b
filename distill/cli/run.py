"""`distill run recipe=NAME`, and its steps alone: `distill extract`, `train`, `evaluate`, `publish`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from distill.cli.logs import kept_in, logger, quieten
from distill.cli.options import Command
from distill.config.command import remember_words
from distill.config.parse import read_recipe
from distill.config.registry import STEPS
from distill.config.schema import Recipe
from distill.runtime.signals import PLANNED

if TYPE_CHECKING:
    from distill.runs.run import Run

DATA = ("data.name", "data.root=DIR", "data.split=DIR")
KEYS = (  # of a whole recipe
    *DATA,
    "image_size",
    "student.name",
    "student.width",
    "student.encoder=FILE",
    "teachers.NAME.weights=FILE",
    "cache.fidelity",
    "stages.NAME.epochs",
    "stages.NAME.losses",
    "optimiser.learning_rate",
    "optimiser.batch_size",
    "seed",
    "home",
)
AGAIN = "Give the same words as for training, or recipe=HOME/runs/RUN/recipe.yaml."


def run(recipe: Recipe) -> dict[str, Any]:
    """Does the steps of a recipe in order; each returns at once if it is complete.

    Returns:
        `metrics.json` of the run: scores, seconds, images that went through a teacher.
    """
    from distill.cli.messages import conclusion, introduction
    from distill.runs.checks import check
    from distill.runs.open_run import open_run
    from distill.runs.steps import do_step
    from distill.runtime.threads import use_all_cores

    use_all_cores()
    run = open_run(recipe)
    require_planned(run)
    lead = run.accelerator.is_main_process
    quieten(lead)
    check(run)
    scored = bool({"evaluate", "publish"}.intersection(recipe.do))
    if scored and "train" not in recipe.do:
        run.require_trained()  # before its folder is made
    with kept_in(run.folder, lead=lead), tracked(run):
        tell(introduction(run))
        for name in (name for name in STEPS if name in recipe.do):
            do_step(name, run)
        metrics = run.read_metrics() if lead else {}
        if lead and scored:
            from distill.report.write import refresh

            refresh(run)
        tell(conclusion(run, metrics))
    return metrics


def require_planned(run: Run) -> None:
    """Raises ValueError if `compare` has planned another run for this process: the data is not what it was then."""
    planned = os.environ.get(PLANNED, run.folder.name)
    if run.folder.name != planned:
        raise ValueError(
            f"the data has changed since the comparison was planned: it now makes the run {run.folder.name} instead of "
            f"{planned}; type the same command again"
        )


def tell(lines: Iterable[str]) -> None:
    """Logs each line."""
    for line in lines:
        logger.info("%s", line)


@contextmanager
def tracked(run: Run) -> Iterator[None]:
    """Runs Accelerate's trackers meanwhile, if the recipe asks for any."""
    if not run.recipe.trackers:
        yield
        return
    # TensorBoard makes a folder with the project's name; other trackers keep many runs in one project.
    project = run.folder.name if run.recipe.trackers == ["tensorboard"] else "bandpass"
    run.accelerator.init_trackers(
        project, config={"run": run.folder.name}, init_kwargs={"wandb": {"name": run.folder.name}}
    )
    yield
    run.accelerator.end_training()


def run_steps(given: SimpleNamespace, *, dry: bool, step: str = "") -> int:
    """Reads the recipe and does its steps, or one of them; dry: prints what a run would cost."""
    if step and (extra := next((word for word in given.rest if word.startswith("do=")), "")):
        raise ValueError(f"distill {step} does that step alone; take {extra} out, or type distill run")
    remember_words(given.rest)
    recipe = read_recipe([*given.rest, f"do={step}"] if step else given.rest)
    if not dry:
        from distill.runs.barrier import leave_together

        run(recipe)
        leave_together()
        return 0
    from distill.cli.dry_run import estimate
    from distill.runtime.threads import use_all_cores

    use_all_cores()
    sys.stdout.write(estimate(recipe))
    return 0


def command(
    name: str, does: str, *, writes: tuple[str, ...], examples: tuple[str, ...], keys: tuple[str, ...] = KEYS
) -> Command:
    """The command of one step, or of all."""
    return Command(
        name,
        partial(run_steps, step="" if name == "run" else name),
        does,
        writes=writes,
        keys=keys,
        schema=Recipe,
        needs=("recipe=NAME",),
        examples=examples,
        continues=True,
    )


RUN = command(
    "run",
    "Does the steps of a recipe: extract, train, evaluate, publish (do=extract,train selects some). Finished work is "
    "skipped, so the same command resumes a stopped run. --dry-run estimates images, GB and hours, and does nothing "
    "else.",
    writes=(
        "HOME/features/TEACHER-DIGEST/     the cache",
        "HOME/runs/RECIPE-STUDENT-DIGEST/  log.txt, metrics.json, predictions.csv, report.html, student/",
    ),
    examples=(
        "distill run recipe=sam_to_unet",
        "distill run recipe=timm_to_unet data.root=DIR teachers.efficientnet.weights=FILE --dry-run",
        "distill run recipe=sam_to_unet student.width=16          # a second student, from the same cache",
        "distill run recipe=artifacts/runs/RUN/recipe.yaml        # the same run again",
        "accelerate launch --multi_gpu distill/run.py recipe=sam_to_unet",
    ),
)
EXTRACT = command(
    "extract",
    "Runs every teacher once on every training image and its flips, and stores the features as a frequency code.",
    writes=("HOME/features/TEACHER-DIGEST/  manifest.json, statistics, shards (cache/README.md)",),
    keys=(
        *DATA,
        "data.unlabelled=DIR",
        "teachers.NAME.adapter",
        "teachers.NAME.weights=FILE",
        "teachers.NAME.recipe=NAME",
        "teachers.NAME.image_size=N",
        "teachers.NAME.strides",
        "teachers.NAME.views",
        "teachers.NAME.batch_size",
        "teachers.NAME.precision",
        "cache.fidelity",
        "cache.calibration",
        "home",
    ),
    examples=(
        "distill extract recipe=sam_to_unet",
        "distill extract recipe=timm_to_unet data.root=DIR teachers.efficientnet.weights=FILE --dry-run",
    ),
)
TRAIN = command(
    "train",
    "Trains the student, stage by stage, from the cache. A killed training resumes bit for bit (shown on CPUs).",
    writes=("HOME/runs/RECIPE-STUDENT-DIGEST/  checkpoints/, log.jsonl, train.json, log.txt",),
    keys=(
        *DATA,
        "image_size",
        "precision",
        "student.name",
        "student.width",
        "student.encoder=FILE",
        "stages.NAME.epochs",
        "stages.NAME.losses",
        "optimiser.learning_rate",
        "optimiser.batch_size",
        "evaluate.every",
        "seed",
        "workers",
        "home",
    ),
    examples=("distill train recipe=sam_to_unet", "distill train recipe=sam_to_unet stages.semantic.epochs=30"),
)
EVALUATE = command(
    "evaluate",
    f"Scores the trained student on every test set: Dice, IoU and more, with 95 % intervals. {AGAIN}",
    writes=("HOME/runs/RECIPE-STUDENT-DIGEST/  metrics.json, predictions.csv, report.html",),
    keys=(
        *DATA,
        "data.test",
        "data.test_only",
        "data.groups=FILE",
        "image_size",
        "student.name",
        "evaluate.bootstrap",
        "seed",
        "home",
    ),
    examples=(
        "distill evaluate recipe=sam_to_unet",
        "distill evaluate predictions=DIR masks=DIR out=FILE.json # other people's results, scored the same way",
    ),
)
PUBLISH = command(
    "publish",
    "Writes the student for others to use: safetensors, ONNX checked against PyTorch, model card, example pictures. "
    f"{AGAIN}",
    writes=("HOME/runs/RECIPE-STUDENT-DIGEST/student/",),
    keys=(
        "publish.examples",
        "publish.int8",
        "publish.encoder",
        "publish.licence=TEXT",
        "publish.hub=OWNER/NAME",
        "publish.zoo=DIR",
        "image_size",
        "student.name",
        "seed",
        "home",
    ),
    examples=(
        "distill publish recipe=sam_to_unet",
        "distill publish recipe=artifacts/runs/RUN/recipe.yaml publish.int8=true publish.hub=OWNER/NAME",
        "distill publish recipe=artifacts/runs/RUN/recipe.yaml publish.zoo=students/zoo/NAME",
    ),
)
