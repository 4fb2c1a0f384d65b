"""The command line: `accelerate launch distill/run.py recipe=NAME [key=value ...]`, or `distill VERB ...`."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.config.schema import Recipe
    from distill.runs.run import Run

if __package__ in (None, ""):
    # As a script, Python puts distill/ first on the path, where its modules would hide libraries.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported, which is later

logger = logging.getLogger("bandpass")

FLAGS = ("--help", "-h", "--dry-run", "--debug")
COMMANDS = {  # beside `run` and the verbs, each called with (words, *, dry) and returning the exit status
    "compare": "distill.comparison.command:compare_command",
    "cache": "distill.cli.cache:cache_command",
    "doctor": "distill.cli.doctor:doctor_command",
    "report": "distill.report.write:report_command",
    "bench": "distill.bench.command:bench_command",
    "weights": "distill.cli.weights:weights_command",
    "predict": "distill.cli.predict:predict_command",
    "demo": "distill.cli.demo:demo_command",
    "score": "distill.cli.score:score_command",  # as which `evaluate predictions=DIR masks=DIR` is understood
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status: 0, 1 for an error that its line explains, 2 for wrong words."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    flags = {word for word in words if word.startswith("-")}
    words = [word for word in words if not word.startswith("-")]
    start_logging()
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that a user's own classes are found and hide nothing
    if unknown := sorted(flags - set(FLAGS)):
        logger.error("unknown option %s; there are %s, and key=value", unknown[0], ", ".join(FLAGS))
        return 2
    command = words.pop(0) if words and "=" not in words[0] else "run"
    if flags & {"--help", "-h"} or (command == "run" and not words):
        from distill.cli.help import help_text

        sys.stdout.write(help_text(command))
        return 0
    return guarded(command, words, flags)


def guarded(command: str, words: list[str], flags: set[str]) -> int:
    """Runs a command; what a user can cause is told in one line, with a trace only under --debug."""
    try:
        return dispatch(command, words, dry="--dry-run" in flags)
    except KeyboardInterrupt:
        logger.error("interrupted; the same command continues where this one stopped")
        return 130
    except (ValueError, FileNotFoundError, OSError, RuntimeError, ImportError) as error:
        if "--debug" in flags:
            raise
        expected = isinstance(error, (ValueError, OSError))
        logger.error("%s%s", error, "" if expected else f" [{type(error).__name__}; --debug shows where]")
        return 1


def dispatch(command: str, words: list[str], *, dry: bool) -> int:
    """Finds what a command word means and does it."""
    from distill.config.parse import read_recipe
    from distill.config.schema import VERBS

    if command == "evaluate" and any(word.startswith(("predictions=", "masks=")) for word in words):
        command = "score"
    if command in COMMANDS:
        module, _, function = COMMANDS[command].partition(":")
        return getattr(import_module(module), function)(words, dry=dry)
    if command not in ("run", *VERBS):
        from distill.cli.help import unknown_command

        raise ValueError(unknown_command(command))
    recipe = read_recipe(words if command == "run" else [*words, f"do={command}"])
    if dry:
        from distill.cli.dry_run import estimate
        from distill.runtime.threads import use_all_cores

        use_all_cores()
        sys.stdout.write(estimate(recipe))
        return 0
    run(recipe)
    return 0


def run(recipe: Recipe) -> dict[str, Any]:
    """Does the recipe's verbs in their order and returns `metrics.json`; each returns at once where it is complete."""
    from distill.cli.messages import conclusion, introduction
    from distill.evaluation.evaluate import evaluate
    from distill.extraction.extract import extract
    from distill.publishing.publish import publish
    from distill.report.write import refresh
    from distill.runs.checks import check
    from distill.runs.run import open_run
    from distill.runtime.threads import use_all_cores
    from distill.training.train import train

    use_all_cores()
    run = open_run(recipe)
    lead = run.accelerator.is_main_process
    quieten(lead)
    if recipe.trackers:
        # TensorBoard makes a folder of the project's name; the others keep many runs in one project.
        project = run.folder.name if recipe.trackers == ["tensorboard"] else "bandpass"
        run.accelerator.init_trackers(
            project, config={"run": run.folder.name}, init_kwargs={"wandb": {"name": run.folder.name}}
        )
    check(run)
    for line in introduction(run):
        logger.info(line)
    metrics: dict[str, Any] = {}
    verbs: dict[str, Callable[[Run], Any]] = {
        "extract": extract,
        "train": train,
        "evaluate": evaluate,
        "publish": publish,
    }
    for name, verb in verbs.items():
        if name not in recipe.do:
            continue
        began = time.monotonic()
        result = verb(run)
        if lead:
            metrics = add_cost(run, name, seconds=time.monotonic() - began, result=result)
        run.accelerator.wait_for_everyone()
    if lead and {"evaluate", "publish"}.intersection(recipe.do):
        refresh(run)
    if recipe.trackers:
        run.accelerator.end_training()
    for line in conclusion(run, metrics):
        logger.info(line)
    return metrics


def add_cost(run: Run, verb: str, *, seconds: float, result: Any) -> dict[str, Any]:  # noqa: ANN401
    """Adds what a verb took to metrics.json: a run that was killed, or is run again, keeps what it has cost."""
    from distill.evaluation.evaluate import read_metrics
    from distill.runs.run import update_metrics

    metrics = read_metrics(run)
    spent = round(metrics.get("seconds", {}).get(verb, 0.0) + seconds, 1)
    entries: dict[str, Any] = {"seconds": {verb: spent}}
    if verb == "extract":
        entries["teacher_forwards"] = metrics.get("teacher_forwards", 0) + sum(result.values())
    return update_metrics(run, **entries)


def start_logging() -> None:
    """Plain lines on standard error for people; other libraries speak only when something is wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def quieten(lead: bool) -> None:
    """Only rank 0 speaks, and libraries keep their advice to themselves."""
    logger.setLevel(logging.INFO if lead else logging.ERROR)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|timm|onnxscript|huggingface_hub)\b.*")


if __name__ == "__main__":
    sys.exit(main())
