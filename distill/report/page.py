"""The page put together: each section for itself, so that one that cannot be drawn leaves the others standing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.resources import files
from typing import Any, TypeVar

import cache
from distill.cache_report.plot import short
from distill.cache_report.report import report as examine_cache
from distill.config.parse import dump_recipe
from distill.evaluation.loading import load_student
from distill.evaluation.scoring import predictor_of
from distill.evaluation.soft_masks import soft_masks_of
from distill.publishing.card import title_of
from distill.publishing.provenance import provenance_of
from distill.report import facts, plots, tables
from distill.report.cases import cases, has_soft_masks
from distill.report.curves import curves
from distill.report.features import seen
from distill.report.inputs import Material
from distill.runs.reproduce import command, public_recipe
from distill.runs.run import Run

Result = TypeVar("Result")

logger = logging.getLogger("bandpass")


class Sections:
    """Makes sections and keeps what could not be made, as sentences for the page and the log."""

    def __init__(self) -> None:
        self.left_out: list[str] = []

    def make(self, what: str, build: Callable[[], Result]) -> Result | None:
        """What `build` returns; None, and a sentence, where it fails."""
        try:
            return build()
        except Exception as error:  # whatever a picture fails at, the figures of the page are worth having without it
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

    material, sections = Material(run), Sections()
    metrics = material.metrics
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=True
    )
    folder = files("distill.report")
    template = environment.from_string(folder.joinpath("page.html.jinja").read_text(encoding="utf-8"))
    content: dict[str, Any] = {
        "title": title_of(run.recipe),
        "run": run.folder.name,
        "metrics": metrics,
        "warnings": list(facts.warnings(material)),
        "notes": run.splits.notes,
        "setting": facts.setting(material),
        "stages": facts.stages(material),
        "parts": provenance_of(run).parts,
        "split": facts.split_words(material),
        "resamples": metrics.get("evaluated", {}).get("resamples", run.recipe.evaluate.bootstrap),
        "results": tables.results(metrics),
        "by_size": tables.by_size(metrics),
        "by_class": tables.by_class(metrics),
        "size_titles": tables.titles(tables.BY_SIZE),
        "teachers": tables.teachers(metrics),
        "side_titles": tables.titles(tables.SIDE_BY_SIDE),
        "cost": facts.cost(material),
        "terms": provenance_of(run).terms,
        "licence": provenance_of(run).licence,
        "versions": facts.versions(),
        "command": command(run.recipe),
        "recipe": dump_recipe(public_recipe(run.recipe)),
        "proof": material.published.get("onnx"),
        "several": run.recipe.student.classes > 1,
        "short": short,
    }
    content |= drawn(material, sections)
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    return template.render(**content, left_out=sections.left_out, style=style)


def drawn(material: Material, sections: Sections) -> dict[str, Any]:
    """The parts of the page that look at images, caches and the network."""
    run = material.run
    sections.left_out += absent(run)
    caches = sections.make("What the caches hold", lambda: stores_of(run)) or {}
    masks = sections.make("The soft masks", lambda: soft_masks_of(run)) or {}
    network = sections.make("The student's pictures", lambda: load_student(run, caches))
    ask = (
        None if network is None else sections.make("The student's answers", lambda: predictor_of(network, run, caches))
    )
    shown = ask and sections.make("The cases", lambda: cases(material, ask, masks))
    return {
        "size_chart": sections.make("Dice against size", lambda: plots.size_chart(material)),
        "spread_chart": sections.make("The distribution of Dice", lambda: plots.spread_chart(material)),
        "calibration_chart": sections.make("Calibration", lambda: plots.calibration_chart(material)),
        "curves": sections.make("The curves", lambda: curves(material)) or [],
        "cases": shown or {},
        "soft_masks": has_soft_masks(shown or {}),
        "seen": sections.make("The teacher's features", lambda: seen(material, network)) or [],
        "caches": sections.make("The caches", lambda: [examine_cache(store) for store in caches.values()]) or [],
        "latency": sections.make("The latency", lambda: measured(material)),
    }


def stores_of(run: Run) -> dict[str, cache.Cache]:
    """The caches of a run that are there."""
    return {name: cache.open(path) for name, path in run.caches.items() if cache.exists(path)}


def absent(run: Run) -> list[str]:
    """A sentence for each cache that is not there (any more)."""
    gone = {name: path for name, path in run.caches.items() if not cache.exists(path)}
    return [f"What teacher {name} saw is left out: its cache {path.name} is not there" for name, path in gone.items()]


def measured(material: Material) -> dict[str, Any] | None:
    """What a frame takes by the published ONNX file, as publishing measured it, or else this call; None without one."""
    from distill.inference.onnx_file import open_onnx
    from distill.publishing.latency import latency

    path = material.run.published / "model.onnx"
    if not path.is_file():
        return None
    if "latency" in material.published:
        return material.published["latency"]
    first = next(iter(material.run.splits.test.values()))[0]
    return latency(open_onnx(path, threads=1), first.read_image())
