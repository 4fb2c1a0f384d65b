"""What was run, on what, by which versions, under which terms: the facts of a page, in words."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from distill.config.schema import StageRecipe, TeacherRecipe
from distill.publishing.card import describe_split, encoder_of, place_of_weights
from distill.report.inputs import Material

PACKAGES = (
    "bandpass-distill", "torch", "torchvision", "timm", "transformers", "accelerate", "numpy", "scipy", "onnxruntime",
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """A name and what there is to say of it."""

    name: str
    text: str


@dataclass(frozen=True)
class Stage:
    """A stage in words."""

    name: str
    length: str
    losses: str
    rests: str


def setting(material: Material) -> list[Fact]:
    """Student, teacher and training in a few lines."""
    run, metrics = material.run, material.metrics
    recipe, student = run.recipe, metrics["student"]
    network = f"{recipe.student.name} of width {recipe.student.width}"
    macs = f", {student['macs'] / 1e6:,.0f} million multiply-accumulates an image" if "macs" in student else ""
    sees = (
        "reads a teacher's cached features"
        if recipe.reads_features
        else f"sees {recipe.image_size} x {recipe.image_size} pixels"
    )
    facts = [Fact("student", f"{network}; {student['parameters']:,} parameters{macs}; {sees}")]
    if encoder := encoder_of(recipe):
        facts.append(Fact("encoder", f"began with {encoder}"))
    if recipe.student.init:
        facts.append(Fact("began as", place_of(recipe.student.init)))
    if recipe.student.classes > 1:
        facts.append(Fact("classes", f"{recipe.student.classes}, the background included"))
    for name, entry in recipe.consulted.items():
        facts.append(Fact(f"teacher {name}", f"{teacher_words(entry)}, weights {place_of_weights(recipe, name)}"))
    if not recipe.consulted:
        facts.append(Fact("teacher", "none: trained on masks alone"))
    optimiser = recipe.optimiser
    average = f", averaged weights ({optimiser.ema:g} a step)" if optimiser.ema else ""
    facts.append(
        Fact(
            "optimiser",
            f"AdamW, rate {optimiser.learning_rate:g} ({optimiser.schedule}), decay {optimiser.weight_decay:g}, "
            f"batches of {optimiser.batch_size}{average}; {recipe.precision}; seed {recipe.seed}",
        )
    )
    if training := material.training:
        kept = f"; kept is step {training['best_step']:,}" if "best_step" in training else ""
        if "steps" in training:
            facts.append(Fact("trained", f"{training['steps']:,} steps, {training['epochs']:g} epochs{kept}"))
    return facts


def teacher_words(entry: TeacherRecipe) -> str:
    """What looks, or whose features are read, in a few words."""
    if entry.adapter == "task" and entry.of:
        return f"a decoder on the features of {entry.of}"
    size = f" at {entry.image_size} pixels" if entry.image_size else ""
    return f"{entry.adapter}{f' {entry.model}' if entry.model else ''}{size}"


def place_of(place: str) -> str:
    """The last part of a path, a hub id as it is."""
    from distill.runs.reproduce import public_name

    return public_name(place) or place


def stages(material: Material) -> list[Stage]:
    """The stages that ran."""
    return [
        Stage(name, length_of(stage), losses_of(stage), ", ".join(stage.freeze) or "nothing")
        for name, stage in material.run.recipe.stages.items()
        if stage.runs
    ]


def length_of(stage: StageRecipe) -> str:
    """`40 epochs` or `600 steps`."""
    return f"{stage.epochs} epochs" if stage.steps is None else f"{stage.steps} steps"


def losses_of(stage: StageRecipe) -> str:
    """`segment + 0.5 boundary`."""
    return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in stage.losses.items() if weight)


def split_words(material: Material) -> str:
    """How the parts came about."""
    return describe_split(material.run.recipe.data)


def warnings(material: Material) -> Iterator[str]:
    """What a reader must know before any figure."""
    recipe = material.run.recipe
    if recipe.data.name == "builtin":
        yield "Trained and tested on generated images: the figures say nothing about real ones."
    if any((teacher.cache or teacher.weights) == "builtin" for teacher in recipe.consulted.values()):
        yield (
            "The built-in teacher has SAM's architecture but is not SAM: it was trained with labels of the generator "
            "that made these images."
        )
    for one in material.training.get("collapsed", []):
        yield f"The projection collapsed ({one}): the student said nearly the same everywhere, and learned nothing."
    yield "Not a medical device: for research only."


def versions() -> list[Fact]:
    """Python and the packages that matter."""
    found = [Fact(package, text) for package in PACKAGES if (text := version_of(package))]
    system = Fact("system", f"{platform.system()} {platform.machine()}")
    return [Fact("Python", platform.python_version()), *found, system]


def version_of(package: str) -> str:
    """The version of an installed package; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def cost(material: Material) -> list[tuple[str, float]]:
    """Verb -> seconds, as in metrics.json."""
    seconds: dict[str, Any] = material.metrics.get("seconds", {})
    return [(verb, float(spent)) for verb, spent in seconds.items()]
