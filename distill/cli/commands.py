"""The commands of `distill`, each with its place and a line on its use, and finding one on a command line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pkgutil import resolve_name

from distill.runtime.issues import nearest, printable
from distill.runtime.signals import ended, interrupted

# Name -> ("module:attribute" of its `Command`, what it is for).
COMMANDS = {
    "run": ("distill.cli.run:RUN", "a whole recipe: extract, train, evaluate, publish; finished steps are skipped"),
    "extract": (
        "distill.cli.run:EXTRACT",
        "the teachers' features of every training image, in a frequency-coded cache",
    ),
    "train": ("distill.cli.run:TRAIN", "the student, stage by stage, from the cache; resumes bit for bit after a kill"),
    "evaluate": (
        "distill.cli.run:EVALUATE",
        "Dice and IoU on every test set; with predictions=DIR masks=DIR, of any folder",
    ),
    "publish": ("distill.cli.run:PUBLISH", "safetensors, ONNX checked against it, model card, example pictures"),
    "compare": ("distill.cli.compare:COMMAND", "the recipe's arms over several seeds, with paired differences"),
    "predict": ("distill.cli.predict:COMMAND", "masks, overlays and a table for a picture, a folder or a video"),
    "calibrate": ("distill.cli.calibrate:COMMAND", "a student's thresholds for a new hospital, by images with masks"),
    "adapt": ("distill.cli.adapt:COMMAND", "a student with batch-norm statistics of new images, without masks"),
    "demo": ("distill.cli.demo:COMMAND", "a local page that shows masks on an image, a video or a camera"),
    "doctor": ("distill.cli.doctor:COMMAND", "a check of a data set: bad files, odd masks, copies, leaks of a split"),
    "weights": ("distill.cli.weights:COMMAND", "known weights of every teacher, to list, download and check"),
    "cache": ("distill.cli.cache:COMMAND", "size, fidelity and integrity of a cache; copies to share"),
    "report": ("distill.cli.report:COMMAND", "the page of an evaluated run, written anew"),
    "bench": ("distill.cli.bench:COMMAND", "sizes, rates and latencies, measured side by side"),
    "recipes": ("distill.cli.recipes:COMMAND", "the recipes, one line each"),
    "keys": ("distill.cli.keys:COMMAND", "the keys of a recipe with defaults and meanings: distill keys stages"),
    "runs": ("distill.cli.runs:COMMAND", "your runs, with date, steps, Dice and folder"),
    "zoo": ("distill.cli.zoo:COMMAND", "the published students that come with Bandpass"),
}
OTHER: dict[str, tuple[tuple[str, ...], str]] = {  # command -> keys that turn it into another command, and that command
    "evaluate": (("predictions=", "masks="), "distill.cli.score:COMMAND"),
    "compare": (("scores=",), "distill.cli.compare_scores:COMMAND"),
    "publish": (("onnx=", "student="), "distill.cli.onnx:COMMAND"),
}
FLAGS = ("--help", "-h", "--version", "--dry-run", "--debug")
OVERVIEW = """\
Bandpass {version}: distil vision foundation models into light segmentation networks.
{commands}
  distill run recipe=sam_to_unet                         # needs no data: a few minutes
  distill doctor data.root=DIR
  distill predict student=sam_to_unet images=DIR out=masks
distill COMMAND --help explains one. Several GPUs: accelerate launch --multi_gpu distill/run.py ...
"""

logger = logging.getLogger("bandpass")


def run_line(words: Sequence[str]) -> int:
    """Runs a command line; returns the exit status: 0, 1 for an error with a message, 2 for an unknown flag."""
    flags = {word for word in words if word.startswith("-")}
    rest = [word for word in words if not word.startswith("-")]
    if unknown := sorted(flags - set(FLAGS)):
        logger.error("unknown option %s; choose from %s, or give key=value", unknown[0], ", ".join(FLAGS))
        return 2
    command = rest.pop(0) if rest and "=" not in rest[0] else ""
    if "--version" in flags or not (command or rest) or (not command and flags & {"--help", "-h"}):
        sys.stdout.write(f"bandpass {released()}\n" if "--version" in flags else overview())
        return 0
    return guarded(lambda: dispatch(command or "run", rest, flags), debug="--debug" in flags)


def guarded(action: Callable[[], int], *, debug: bool) -> int:
    """Runs the action; errors that a user can cause become one line, with a traceback only under --debug."""
    try:
        return action()
    except KeyboardInterrupt:
        logger.error(ended("interrupted"))
        return 130
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if debug:
            raise
        expected = isinstance(error, (ValueError, OSError))
        logger.error("%s%s", told(error), "" if expected else f" [{type(error).__name__}; --debug shows where]")
        return interrupted() or 1


def told(error: Exception) -> str:
    """The message of an error; of one of the system, the file and the reason without its number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{printable(error.filename)}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    return str(error)


def dispatch(command: str, words: list[str], flags: set[str]) -> int:
    """Finds the command and runs it, or prints its help.

    Raises:
        ValueError: there is no such command.
    """
    if command not in COMMANDS:
        raise ValueError(unknown_command(command))
    if flags & {"--help", "-h"}:
        sys.stdout.write(help_text(command))
        return 0
    keys, other = OTHER.get(command, ((), ""))
    place = other if any(word.startswith(keys) for word in words) else COMMANDS[command][0]
    return resolve_name(place)(words, dry="--dry-run" in flags)


def unknown_command(command: str) -> str:
    """The message for an unknown command."""
    hint = nearest(command, COMMANDS)
    return f"unknown command {command!r}; choose from {', '.join(COMMANDS)}, or give key=value{hint}"


def overview() -> str:
    """The output of `distill` alone: its purpose, the commands and three examples, in at most 24 lines."""
    lines = [f"  {name:<10}{meaning}" for name, (_, meaning) in COMMANDS.items()]
    return OVERVIEW.format(version=released(), commands="\n".join(lines))


def help_text(command: str) -> str:
    """The output of `distill COMMAND --help`."""
    places = [COMMANDS[command][0], *(other for name, (_, other) in OTHER.items() if name == command)]
    return "\n".join(resolve_name(place).help() for place in places)


def released() -> str:
    """The installed version."""
    try:
        return version("bandpass-distill")
    except PackageNotFoundError:
        return "(not installed)"
