"""Assembly of the page: sections are built independently, so one that fails does not affect the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.resources import files
from typing import Any, TypeVar

import cache
from distill.cache_report.plot import short
from distill.cache_report.report import report as examine_cache
from distill.config.parse import dump_recipe
from distill.evaluation.scoring import predictor_of
from distill.evaluation.soft_masks import soft_masks_of
from distill.metrics.bootstrap import NO_INTERVAL
from distill.publishing.card import describe_split, title_of
from distill.publishing.provenance import provenance_of
from distill.report import charts, facts, tables
from distill.report.cases import cases, has_soft_masks
from distill.report.curves import curves
from distill.report.features import teacher_views
from distill.report.inputs import Inputs
from distill.runs.reproduce import command, public_recipe
from distill.runs.run import Run
from distill.runs.weights import load_student

Result = TypeVar("Result")

logger = logging.getLogger("bandpass")


class Sections:
    """Builds sections and records each failure as a sentence for the page and the log."""

    def __init__(self) -> None:
        self.left_out: list[str] = []

    def make(self, what: str, build: Callable[[], Result]) -> Result | None:
        """Returns the result of `build`; if it fails, records a sentence and returns None."""
        try:
            return build()
        except Exception as error:  # whatever goes wrong in a section, the rest of the page is worth having
            sentence = f"{what} {'are' if what.endswith('s') else 'is'} left out: {str(error) or type(error).__name__}"
            self.left_out.append(sentence)
            logger.warning("report: %s", sentence, exc_info=logger.isEnabledFor(logging.DEBUG))
            return None


def render(run: Run) -> str:
    """The page of an evaluated run as HTML.

    Raises:
        FileNotFoundError: the run has not been evaluated.
    """
    import jinja2

    inputs, sections = Inputs(run), Sections()
    metrics = inputs.metrics
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=True
    )
    folder, origin = files("distill.report"), provenance_of(run)
    template = environment.from_string(folder.joinpath("page.html.jinja").read_text(encoding="utf-8"))
    content: dict[str, Any] = {
        "title": title_of(run.recipe),
        "run": run.folder.name,
        "metrics": metrics,
        "warnings": list(facts.warnings(inputs)),
        "notes": run.splits.notes,
        "summary": facts.summary(inputs),
        "stages": facts.stages(inputs),
        "parts": origin.parts,
        "split": describe_split(run.recipe.data),
        "resamples": metrics.get("evaluated", {}).get("resamples", run.recipe.evaluate.bootstrap),
        "results": tables.results(metrics),
        "no_interval": NO_INTERVAL,
        "by_size": tables.parts(metrics, "by_size", tables.size_words),
        "by_class": tables.parts(metrics, "by_class", "class {}".format),
        "size_titles": tables.titles(tables.BY_SIZE),
        "teachers": tables.teachers(metrics),
        "side_titles": tables.titles(tables.SIDE_BY_SIDE),
        "cost": facts.cost(inputs),
        "terms": origin.terms,
        "licence": origin.licence,
        "versions": facts.versions(),
        "command": command(run.recipe),
        "recipe": dump_recipe(public_recipe(run.recipe)),
        "onnx_check": inputs.published.get("onnx"),
        "several": run.recipe.student.classes > 1,
        "short": short,
    }
    content |= drawn(inputs, sections)
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    return template.render(**content, left_out=sections.left_out, style=style)


def drawn(inputs: Inputs, sections: Sections) -> dict[str, Any]:
    """The parts of the page that need images, caches and the network."""
    run = inputs.run
    sections.left_out += absent(run)
    caches = sections.make("The contents of the caches", lambda: stores_of(run)) or {}
    masks = sections.make("The soft masks", lambda: soft_masks_of(run)) or {}
    network = sections.make("The student's pictures", lambda: load_student(run, caches))
    ask = (
        None if network is None else sections.make("The student's outputs", lambda: predictor_of(network, run, caches))
    )
    shown = ask and sections.make("The cases", lambda: cases(inputs, ask, masks))
    return {
        "size_chart": sections.make("Dice against size", lambda: charts.size_chart(inputs)),
        "spread_chart": sections.make("The distribution of Dice", lambda: charts.spread_chart(inputs)),
        "calibration_chart": sections.make("Calibration", lambda: charts.calibration_chart(inputs)),
        "curves": sections.make("The curves", lambda: curves(inputs)) or [],
        "cases": shown or {},
        "soft_masks": has_soft_masks(shown or {}),
        "teacher_views": sections.make("The teacher's features", lambda: teacher_views(inputs, network)) or [],
        "caches": sections.make("The caches", lambda: [examine_cache(store) for store in caches.values()]) or [],
        "latency": sections.make("The latency", lambda: measured(inputs)),
    }


def stores_of(run: Run) -> dict[str, cache.Cache]:
    """The caches of a run that exist."""
    return {name: cache.open(path) for name, path in run.caches.items() if cache.exists(path)}


def absent(run: Run) -> list[str]:
    """A sentence for each cache that does not exist, or no longer exists."""
    gone = {name: path for name, path in run.caches.items() if not cache.exists(path)}
    return [
        f"The features of teacher {name} are left out: its cache {path.name} is not there"
        for name, path in gone.items()
    ]


def measured(inputs: Inputs) -> dict[str, Any] | None:
    """The latency of the published ONNX file, measured on publishing or else now; None if there is no such file."""
    from distill.inference.onnx_file import open_onnx
    from distill.publishing.latency import latency

    path = inputs.run.published / "model.onnx"
    if not path.is_file():
        return None
    if "latency" in inputs.published:
        return inputs.published["latency"]
    first = next(iter(inputs.run.splits.test.values()))[0]
    return latency(open_onnx(path, threads=1), first.read_image())
