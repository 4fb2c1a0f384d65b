"""The facts of a run in words: settings, data, versions, terms."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from distill.config.schema import StageRecipe, TeacherRecipe
from distill.publishing.card import encoder_of, place_of_weights
from distill.report.inputs import Inputs
from distill.runs.reproduce import public_name

PACKAGES = (
    "bandpass-distill", "torch", "torchvision", "timm", "transformers", "accelerate", "numpy", "scipy", "onnxruntime",
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """A name and its text."""

    name: str
    text: str


@dataclass(frozen=True)
class Stage:
    """A stage in words."""

    name: str
    length: str
    losses: str
    frozen: str


def summary(inputs: Inputs) -> list[Fact]:
    """Student, teacher and training in a few lines."""
    run, metrics = inputs.run, inputs.metrics
    recipe, student = run.recipe, metrics["student"]
    network = f"{recipe.student.name} of width {recipe.student.width}"
    macs = f", {student['macs'] / 1e6:,.0f} million multiply-accumulates per image" if "macs" in student else ""
    sees = (
        "reads a teacher's cached features"
        if recipe.reads_features
        else f"input of {recipe.image_size} x {recipe.image_size} pixels"
    )
    facts = [Fact("student", f"{network}; {student['parameters']:,} parameters{macs}; {sees}")]
    if encoder := encoder_of(recipe):
        facts.append(Fact("encoder", f"initialised from {encoder}"))
    if recipe.student.init:
        facts.append(Fact("initialised from", str(public_name(recipe.student.init))))
    if recipe.student.classes > 1:
        facts.append(Fact("classes", f"{recipe.student.classes}, background included"))
    for name, entry in recipe.consulted.items():
        facts.append(Fact(f"teacher {name}", f"{teacher_words(entry)}, weights {place_of_weights(recipe, name)}"))
    if not recipe.consulted:
        facts.append(Fact("teacher", "none: trained on masks alone"))
    optimiser = recipe.optimiser
    average = f", averaged weights (decay {optimiser.ema:g} per step)" if optimiser.ema else ""
    computed = inputs.training.get("precision", recipe.precision)
    facts.append(
        Fact(
            "optimiser",
            f"AdamW, learning rate {optimiser.learning_rate:g} ({optimiser.schedule}), weight decay "
            f"{optimiser.weight_decay:g}, batch size {optimiser.batch_size}{average}; {computed}; seed {recipe.seed}",
        )
    )
    if training := inputs.training:
        kept = f"; the weights of step {training['best_step']:,} are kept" if "best_step" in training else ""
        if "steps" in training:
            facts.append(Fact("trained", f"{training['steps']:,} steps, {training['epochs']:.3g} epochs{kept}"))
    return facts


def teacher_words(entry: TeacherRecipe) -> str:
    """The teacher in a few words; for a task teacher, the teacher whose features it reads."""
    if entry.adapter == "task" and entry.of:
        return f"a decoder on the features of {entry.of}"
    size = f" at {entry.image_size} pixels" if entry.image_size else ""
    arithmetic = "" if entry.precision == "fp32" else f" in {entry.precision}"
    return f"{entry.adapter}{f' {entry.model}' if entry.model else ''}{size}{arithmetic}"


def stages(inputs: Inputs) -> list[Stage]:
    """The stages that ran."""
    return [
        Stage(name, length_of(stage), losses_of(stage), ", ".join(stage.freeze) or "nothing")
        for name, stage in inputs.run.recipe.stages.items()
        if stage.runs
    ]


def length_of(stage: StageRecipe) -> str:
    """`40 epochs` or `600 steps`."""
    return f"{stage.epochs} epochs" if stage.steps is None else f"{stage.steps} steps"


def losses_of(stage: StageRecipe) -> str:
    """`segment + 0.5 boundary`."""
    return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in stage.losses.items() if weight)


def warnings(inputs: Inputs) -> Iterator[str]:
    """The warnings at the top of the page."""
    recipe = inputs.run.recipe
    if recipe.data.name == "builtin":
        yield "Trained and tested on generated images: the results say nothing about real images."
    if any((teacher.cache or teacher.weights) == "builtin" for teacher in recipe.consulted.values()):
        yield (
            "The built-in teacher has SAM's architecture but is not SAM: it was trained with labels from the generator "
            "that made these images."
        )
    for one in inputs.training.get("collapsed", []):
        yield f"The projection collapsed ({one}): it is nearly the same everywhere, so it transferred nothing."
    yield "Not a medical device: for research only."


def versions() -> list[Fact]:
    """Versions of Python and of the main packages, and the operating system."""
    found = [Fact(package, text) for package in PACKAGES if (text := version_of(package))]
    system = Fact("system", f"{platform.system()} {platform.machine()}")
    return [Fact("Python", platform.python_version()), *found, system]


def version_of(package: str) -> str:
    """The version of a package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def cost(inputs: Inputs) -> list[tuple[str, float]]:
    """The seconds of each verb, as in metrics.json."""
    seconds: dict[str, Any] = inputs.metrics.get("seconds", {})
    return [(verb, float(spent)) for verb, spent in seconds.items()]
