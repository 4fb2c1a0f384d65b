"""The model card: what the student is, how good it is, what it was made from, its terms, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import DataRecipe, Recipe
from distill.metrics.bootstrap import NO_INTERVAL, format_mean
from distill.publishing.markdown import block, code, escape, one_line
from distill.publishing.provenance import Provenance
from distill.publishing.temperature import LARGEST, SMALLEST, is_at_bound
from distill.runs.fingerprint import digest_file
from distill.runs.licences import slug
from distill.runs.reproduce import command, public_name
from distill.runs.run import Run
from distill.runs.teacher_runs import origin_of
from distill.runtime.issues import several


@dataclass(frozen=True)
class Picture:
    """An example picture: its file, relative to the card, and its title."""

    file: str
    title: str


def render_card(
    run: Run,
    metrics: Mapping[str, Any],
    *,
    origin: Provenance,
    check: Mapping[str, Any],
    pictures: Sequence[Picture],
    found: Mapping[str, Any] | None = None,
    shipped: str | None = None,
) -> str:
    """The model card as Markdown with the Hub's YAML front matter.

    Args:
        run: the published run.
        metrics: its metrics.json.
        origin: what the student was made from.
        check: the result of `distill.publishing.onnx_check.check_onnx`.
        pictures: the examples to show.
        found: choice of the thresholds, calibration, image scores, latency, verdict on int8, and for a student of the
            zoo the `precision` of its weights; an entry is missing if it was not asked for.
        shipped: the place from which a student without ONNX file and encoder is loaded (`publish.zoo`).
    """
    import jinja2
    from markupsafe import Markup

    found = found or {}
    choice, calibration = found.get("thresholds"), found.get("calibration")
    folder_of_encoder = "encoder" if run.recipe.publish.encoder and not shipped else ""
    data, recipe = run.recipe.data, run.recipe
    generated = data.name == "builtin"
    names = list(dict.fromkeys(name for counts in origin.parts.values() for name in counts))
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=escape
    )
    environment.filters.update(code=code, block=block)
    template = environment.from_string(template_of(run).read_text(encoding="utf-8"))
    return template.render(
        title=title_of(recipe),
        student=metrics["student"],
        datasets=metrics["datasets"],
        convention=metrics["convention"],
        resamples=recipe.evaluate.bootstrap,
        interval=lambda figure: Markup(format_mean(figure)),
        few=NO_INTERVAL if has_few(metrics["datasets"]) else "",
        image_size=recipe.image_size,
        classes=recipe.student.classes,
        choice=choice,
        calibration=calibration,
        fitted_on=describe_fitted(run, calibration["images"]) if calibration else "",
        at_bound=calibration and is_at_bound(calibration["temperature"]),
        bounds=f"{SMALLEST:g} to {LARGEST:g}",
        image_scores=found.get("image_scores", {}),
        latency=found.get("latency"),
        int8=found.get("int8"),
        precision=found.get("precision"),
        folder_of_encoder=folder_of_encoder,
        sam=recipe.student.name == "sam_vit",
        generated=generated,
        pictures=pictures,
        place=shipped or recipe.publish.hub or "path/to/this/folder",
        shipped=shipped,
        trust=Markup(f', trust="{recipe.student.name}"' if ":" in recipe.student.name else ""),
        check=check,
        origin=origin,
        split=describe_split(data),
        notes=run.splits.notes,
        weights={name: place_of_weights(recipe, name) for name in origin.teachers},
        encoder=encoder_of(recipe),
        start=public_name(recipe.student.init),
        init_share=recipe.student.init_share,
        builtin_teacher=any(teacher.weights == "builtin" for teacher in recipe.teachers.values()),
        asked_licence=recipe.publish.licence,
        citations=[part.citation for part in origin.terms if part.citation],
        run=run.folder.name,
        command=command(recipe),
        front_matter=Markup(front_matter(run, metrics, licence=origin.licence, names=[] if generated else names)),
    )


def template_of(run: Run) -> Path:
    """The template of the card of a student, or of a task teacher."""
    return Path(__file__).with_name("teacher_card.md" if run.recipe.reads_features else "card.md.jinja")


def front_matter(run: Run, metrics: Mapping[str, Any], *, licence: Mapping[str, str], names: Sequence[str]) -> str:
    """The card's YAML for the Hub: licence, tags, data sets and the results as a model-index.

    Args:
        run: the published run.
        metrics: its metrics.json.
        licence: `license`, and `license_name` if that is `other`.
        names: of the data sets; empty if they are generated.
    """
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=slug(name),
            dataset_name=one_line(name),
            dataset_split="test",
            metric_type=kind,
            metric_name=f"mean {title} per image, at the mask's own size",
            metric_value=round(figures[entry]["mean"], 6),
            metric_args={"interval_95": [round(figures[entry][end], 6) for end in ("low", "high")]}
            if "low" in figures[entry]
            else None,
        )
        for name, figures in metrics["datasets"].items()
        for entry, kind, title in (("dice", "dice", "Dice"), ("iou", "mean_iou", "IoU"))
    ]
    card = ModelCardData(
        library_name="bandpass",
        pipeline_tag="image-segmentation",
        tags=["image-segmentation", "knowledge-distillation", "bandpass", "onnx", slug(run.recipe.student.name)],
        datasets=[slug(name) for name in names] or None,
        metrics=["dice", "mean_iou"],
        model_name=one_line(title_of(run.recipe)),
        eval_results=results,
        license=one_line(licence["license"]),
        license_name=licence.get("license_name"),
    )
    return card.to_yaml().strip()


def has_few(datasets: Mapping[str, Any]) -> bool:
    """Whether any data set, or any class of one, has too few images for an interval."""
    parts = [part for entry in datasets.values() for part in (entry, *entry.get("by_class", {}).values())]
    return any("low" not in part["dice"] for part in parts)


def describe_fitted(run: Run, count: int) -> str:
    """The images on which thresholds and temperature were fitted, in words; `count` includes those made from others."""
    whole = min(count, len(run.splits.val))
    made = f" and {count - whole} without an object made from them" if count > whole else ""
    return f"{several(whole, 'validation image')}{made}"


def place_of_weights(recipe: Recipe, teacher: str) -> str:
    """The origin of a teacher's weights, as far as the recipe states it; the teacher may be given as a cache alone."""
    asked = recipe.teachers.get(teacher)
    if asked and (made := origin_of(asked).get("made_by")):
        return f"made by recipe={made['recipe']}, run {', '.join(made['runs'])}"
    return (public_name(asked.weights) if asked else None) or "given as a cache"


def encoder_of(recipe: Recipe) -> str:
    """The pretrained weights from which the student's backbone was initialised, in words; empty if there were none."""
    place = recipe.student.encoder
    if place is None:
        return ""
    digest = f" (sha256 {digest_file(Path(place))[:12]})" if Path(place).is_file() else ""
    return f"{public_name(place)}{digest}"


def title_of(recipe: Recipe) -> str:
    """The student's name in words: recipe, class and width."""
    return f"{recipe.name}: {recipe.student.name} of width {recipe.student.width}"


def describe_split(data: DataRecipe) -> str:
    """The origin of the training, validation and test parts, in words."""
    if data.name == "builtin":
        return f"The parts were generated separately (data.seed={data.seed})."
    whole = f"; all of {', '.join(data.test_only)} is test data" if data.test_only else ""
    if data.name == "pranet":
        test = f"Training and test images are those of PraNet's folders{whole}."
        share = f"{data.validation:.0%} of the training part"
    elif data.split:
        test = (
            f"Test images are those of the split {public_name(data.split)} and all images of data sets that it does "
            f"not mention{whole}."
        )
        share = f"{data.validation:.0%} of the training part if the split names none"
    else:
        test = f"Test images are a random {data.fractions[2]:.0%} of each data set (data.seed={data.seed})."
        share = f"{data.fractions[1]:.0%}"
    if data.fold:
        share = f"fold {data.fold} of the training part"
    limit = f", at most about {data.max_validation:,} images" if data.max_validation else ""
    return f"{test} Validation is {share}{limit}. Groups (sequences or patients) are kept whole if they are known."
