"""`--help`: commands with examples, recipes with their stories, and every key with its meaning and default."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import MISSING
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import recipes
from distill.config.parse import fields_of, schema_under
from distill.config.schema import Recipe

COMMANDS = {
    "run": "the whole run: extract, train, evaluate, publish; each returns at once where it is complete",
    "extract": "the teachers look at every training image once and leave a frequency-coded cache",
    "train": "the student learns from the cache, stage by stage; continues bit-exactly after a kill",
    "evaluate": "Dice and IoU on every test data set; with predictions=DIR masks=DIR, any folder in every convention",
    "publish": "model.safetensors, model.onnx (proved equal), model card and example pictures",
    "cache": "do=report|verify|export|import cache=DIR: what a cache costs, how faithful and how whole it is; share it",
    "doctor": "examines a data set before anyone trains on it: bad files, odd masks, copies, leaks of a split",
    "report": "report.html of a run that has been evaluated: run=DIR, or the recipe; every run writes its own",
    "bench": "what=NAME,...: sizes, rates and latencies, measured side by side in one run",
    "weights": "do=list|fetch: known weights of every teacher with size, licence and checksum; download them",
    "predict": "masks, overlays and a table for a picture, a folder or a video, by a published student",
    "demo": "a local page on which to drop an image and see the mask",
    "compare": "the recipe's arms over several seeds, with paired differences and intervals",
}
USAGES = {
    "cache": "distill.cli.cache",
    "doctor": "distill.cli.doctor",
    "evaluate": "distill.cli.score",
    "report": "distill.report.write",
    "bench": "distill.bench.request",
    "weights": "distill.cli.weights",
    "predict": "distill.cli.predict",
    "demo": "distill.cli.demo",
}  # where their own keys stand
COMPARE = """distill compare recipe=NAME [key=value ...]

  seeds=0,1,2         of weights, data order and augmentation; the same for every arm
  arms=NAME,...       which of the recipe's arms (all); the first is the control
  students=NAME,...   each of these students for itself (the recipe's)
  jobs=1              trainings at once; 0 runs nothing and compares what is finished
  out=DIR             folder of compare.json, compare.md and compare.png (in HOME/compare)"""
OWN_KEYS = ("bench", "weights", "predict", "demo", "doctor")  # commands that take no recipe
EXAMPLES = (
    "accelerate launch distill/run.py recipe=sam_to_unet",
    "distill run recipe=sam_to_unet student.width=16          # a second student: the teacher is not needed again",
    "distill extract recipe=timm_to_unet data.root=DIR ...    # the cache alone, for any number of students",
    "distill train recipe=timm_to_unet data.root=DIR stages.joint.epochs=30",
    "distill run recipe=adapt_teacher                         # a teacher that knows the task, from cached features",
    "distill publish recipe=artifacts/runs/RUN/recipe.yaml publish.int8=true publish.hub=OWNER/NAME",
    "distill compare recipe=sam_to_unet seeds=0,1,2",
    "distill compare recipe=study_small arms=alone,both ...   # two arms of a study",
    "distill report run=artifacts/runs/RUN                    # its page again, as after an update of Bandpass",
    "distill cache do=report cache=DIR recipe=NAME ...        # bytes and fidelity, against the live teacher",
    "distill evaluate predictions=DIR masks=DIR out=FILE.json # other people's results, scored the same way",
    "distill weights do=fetch name=sam-vit-base               # what real teacher weights there are: do=list",
    "distill predict student=artifacts/runs/RUN/student images=DIR out=masks",
    "distill predict student=model.onnx images='DIR/**/*.png' out=masks flips=true probabilities=true",
    "distill predict student=OWNER/NAME images=film.mp4 out=film threshold=0.4",
    "distill demo student=artifacts/runs/RUN/student           # a page at http://127.0.0.1:7860",
    "distill doctor data.root=DIR data.split=DIR              # table, page, JSON; exit status 1 where data is wrong",
    "distill doctor data.name=pranet data.root=DIR            # a data set of the field, wherever it was unpacked",
    "distill bench what=cache,train out=FILE.json             # ratios measured side by side in one run",
    "distill bench what=student students=unet sizes=256,352   # latency, throughput, int8; or student=DIR",
    "distill run recipe=sam_to_unet --dry-run                 # images, views, GB and hours, before anything is done",
    "distill run recipe=artifacts/runs/RUN/recipe.yaml        # the same run again",
)


def unknown_command(command: str) -> str:
    """The sentence for a word that is no command."""
    near = get_close_matches(command, COMMANDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown command {command!r}; choose from {', '.join(COMMANDS)}, or give key=value{hint}"


def describe_keys(schema: type = Recipe, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key as (key, default, meaning); `NAME` stands for what a recipe names."""
    annotations = fields_of(schema)
    for field in dataclasses.fields(schema):
        name = field.name
        nested, named = schema_under(annotations[name])
        if nested is None:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            yield prefix + name, show(default), field.metadata["meaning"]
        else:
            yield from describe_keys(nested, f"{prefix}{name}.NAME." if named else f"{prefix}{name}.")


def show(value: Any) -> str:  # noqa: ANN401
    """A default as one would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value)) or "[]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {show(part)}" for key, part in value.items()) + "}"
    return str(value)


def story(name: str) -> str:
    """The first sentence of the comment that begins a recipe file."""
    text = (recipes.FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n#\n")[0]
    return re.split(r"(?<=[.?!])\s", text.replace("\n# ", " ").removeprefix("# "), maxsplit=1)[0]


def usage(command: str) -> list[str]:
    """The lines of a command that has keys of its own; none of the others, whose keys are the recipe's."""
    if command == "compare":
        return COMPARE.splitlines()
    if command not in USAGES:
        return []
    module = import_module(USAGES[command])
    return module.USAGE.splitlines() + (module.key_lines() if command == "bench" else [])


def help_text(command: str = "run") -> str:
    """What `--help` prints; of a command that takes no recipe, its own keys alone."""
    lines = ["Bandpass: distil vision foundation models into real-time segmentation networks.", ""]
    if command in COMMANDS and command != "run":
        lines += [f"distill {command}: {COMMANDS[command]}", *usage(command), ""]
    else:
        lines += ["accelerate launch distill/run.py recipe=NAME [key=value ...] [--dry-run] [--debug]"]
        lines += ["distill COMMAND recipe=NAME [key=value ...]            (the same without a launcher)", ""]
        lines += ["Commands", *(f"  {name:<10}{meaning}" for name, meaning in COMMANDS.items()), ""]
    lines += ["Examples", *(f"  {line}" for line in EXAMPLES if command in ("run", *line.split()[:2]))]
    if command not in OWN_KEYS:
        lines += ["", *recipe_lines()]
    return "\n".join(lines) + "\n"


def recipe_lines() -> list[str]:
    """The recipes with their stories, and every key."""
    width = 2 + max(map(len, recipes.names()))
    lines = ["Recipes (recipe= takes a name or a YAML file)"]
    lines += [f"  {name:<{width}}{story(name)}" for name in recipes.names()]
    lines += ["", "Keys, with defaults (a recipe sets its own); lists take commas: do=extract,train", ""]
    return lines + [f"  {key + '=' + default:<44} {meaning}".rstrip() for key, default, meaning in describe_keys()]
