"""`distill cache do=report,verify,export,import cache=DIR`: reports on a cache, checks it, shares it."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cache
from distill.cli.options import Command, Option, one_of, path, several_of, whole
from distill.config.schema import Recipe
from distill.runtime.issues import nearest, several

VERBS = ("report", "verify", "export", "import")

if TYPE_CHECKING:
    from distill.runs.run import Run

CALIBRATION = 64
"""Training images on which a report fits each way to store a map."""

logger = logging.getLogger("bandpass")


def require_sense(given: SimpleNamespace) -> None:
    """Raises ValueError or FileNotFoundError if the keys do not fit together, or the folder holds no cache."""
    if given.rest and not any(word.startswith("recipe=") for word in given.rest):
        key, known = given.rest[0].partition("=")[0], [option.name for option in COMMAND.options]
        raise ValueError(f"distill cache has no key {key!r}{nearest(key, (*known, 'recipe'))}; {COMMAND.usage}")
    if not cache.exists(given.cache):
        raise FileNotFoundError(f"{given.cache} holds no cache (no manifest.json); distill extract makes one")
    if given.out is None and {"export", "import"} & set(given.do):
        raise ValueError("export and import need out=DIR, the folder that the copy is written to")


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Does what `do` asks; returns 1 if `verify` found a problem."""
    require_sense(given)
    if dry:
        logger.info("would %s %s of %s", " and ".join(given.do), given.cache,
                    several(len(cache.open(given.cache)), "record"))  # fmt: skip
        return 0
    status = 0
    for name in given.do:
        if name == "report":
            write_report(given)
        elif name == "verify":
            status = max(status, verify(given))
        else:
            share(given, name)
    return status


def write_report(given: SimpleNamespace) -> Path:
    """Writes report.md, report.json and report.png, prints the first, and returns their folder."""
    from distill.cache_report.plot import plot
    from distill.cache_report.report import markdown, report
    from distill.runtime.io import write_json, write_text

    found = report(cache.open(given.cache))
    folder = given.out or given.cache.parent / f"{given.cache.name}-report"
    text, data = markdown(found), found.to_json()
    folder.mkdir(parents=True, exist_ok=True)
    if given.rest:
        lines, figures = with_teacher(given, folder)
        text, data = "\n".join([text, *lines]), {**data, **figures}
    if found.records:
        plot(found, folder / "report.png")
    pictures = [name for name in ("report", "rates") if (folder / f"{name}.png").is_file()]
    write_text(folder / "report.md", "\n".join([text, *(f"![{name}]({name}.png)\n" for name in pictures)]))
    write_json(folder / "report.json", data)
    sys.stdout.write(text)
    logger.info("written to %s", folder)
    if "verify" not in given.do:
        logger.info("the bytes were not checked: distill cache do=verify cache=%s", given.cache)
    return folder


def with_teacher(given: SimpleNamespace, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The comparison with the live teacher, as lines of Markdown and plain data; writes rates.png."""
    from distill.cache_report.plot import plot_rates
    from distill.cache_report.rate_distortion import rate_lines, rates
    from distill.cache_report.teacher_agreement import agreement_lines, agreements, extract_maps, held_out
    from distill.config.parse import read_recipe
    from distill.extraction.teacher_inference import PRECISIONS, load_teacher
    from distill.runs.open_run import open_run
    from distill.runs.teacher_runs import origin_of

    store = cache.open(given.cache)
    run = open_run(read_recipe(given.rest))
    name = teacher_of(run, store)
    if run.recipe.teachers[name].prompts is not None:
        raise ValueError(
            f"teachers.{name}.prompts is set, but held-out images have no prompts for the live teacher; "
            "leave recipe out; the report then covers the cache alone"
        )
    recipe = run.recipe.teachers[name]
    teacher = load_teacher(recipe, origin_of(recipe)).to(run.accelerator.device, PRECISIONS[recipe.precision])
    size = store.batch_size
    samples = held_out(run, store, given.images)
    found, references = agreements(store, teacher, samples, size=size)
    fitted = run.splits.calibration(CALIBRATION)
    calibration = extract_maps(teacher, [sample.read_image() for sample in fitted], size=size)
    maps = extract_maps(teacher, [sample.read_image() for sample in samples], size=size)
    points = [
        rate for map_, codec in store.codecs.items() for rate in rates(map_, codec, calibration[map_], maps[map_])
    ]
    plot_rates(points, folder / "rates.png", title=f"{given.cache.name}: {several(len(samples), 'held-out image')}")
    lines = [*agreement_lines(found, references, images=len(samples)), *rate_lines(points, images=len(samples))]
    figures = {
        "agreements": [asdict(each) for each in found],
        "references": [asdict(each) for each in references],
        "rates": [asdict(rate) for rate in points],
    }
    return lines, {"held_out_images": len(samples), **figures}


def teacher_of(run: Run, store: cache.Cache) -> str:
    """The recipe's name of the teacher that made a cache.

    Raises:
        ValueError: the recipe has no teacher of that kind.
    """
    kind = store.identity.get("teacher")
    known = {name: teacher.adapter for name, teacher in run.recipe.teachers.items()}
    fitting = [name for name, adapter in known.items() if adapter == kind]
    same = [name for name in fitting if run.caches.get(name, Path()).resolve() == store.path.resolve()]
    if not fitting:
        told = ", ".join(f"{name} ({adapter})" for name, adapter in known.items()) or "none"
        raise ValueError(f"{store.path} was made by a {kind!r} teacher, but the recipe's teachers are {told}")
    return (same or fitting)[0]


def verify(given: SimpleNamespace) -> int:
    """Prints what `cache.verify` finds and what to do; with a recipe, also missing records. Returns 1 on a problem."""
    folder = given.cache
    problems = cache.verify(folder, expected=expected(given) if given.rest else ())
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    harmful = sum(problem.kind != "foreign" for problem in problems)
    if not harmful:
        sys.stdout.write(f"{folder}: every byte is as it was written\n")
        return 0
    remedy = (
        "distill extract with the recipe that made it repairs it: it extracts again what is damaged or "
        "missing; in a copy (read by teachers.NAME.cache) remove the files named, and export or import it again"
    )
    logger.error("%s: %s; %s", folder, several(harmful, "problem"), remedy)
    return 1


def expected(given: SimpleNamespace) -> list[tuple[str, str]]:
    """The records that the recipe would extract into the cache."""
    from distill.config.parse import read_recipe
    from distill.extraction.plan import plan_extraction
    from distill.runs.open_run import open_run

    run = open_run(read_recipe(given.rest))
    name = teacher_of(run, cache.open(given.cache))
    return list(plan_extraction(run, name, folder=given.cache).records)


def share(given: SimpleNamespace, verb: str) -> None:
    """Copies a cache to `out`; an export also gets a README."""
    from distill.cache_report.share import copy_cache, readme
    from distill.runtime.io import write_text

    assert given.out is not None
    store = copy_cache(given.cache, given.out)
    if verb == "export":
        write_text(given.out / "README.md", readme(store))
    logger.info("%s of %s are in %s, every byte as it was written; to train from them: teachers.NAME.cache=%s",
                several(len(store), "record"), given.cache, given.out, given.out)  # fmt: skip


COMMAND = Command(
    "cache",
    run,
    does="Reports the size of a cache and how faithful it is (with the recipe that made it: against the live teacher), "
    "checks that it is complete and undamaged, and copies it for others.",
    writes=(
        "DIR-report/ (or OUT)   report.md, report.json, report.png",
        "OUT                    the copy of an export or import",
    ),
    options=(
        Option("do", "of report, verify, export, import, with commas", "report", ["report"], several_of(one_of(VERBS))),
        Option("cache", "the folder, HOME/features/TEACHER-DIGEST", "DIR", read=path, required=True),
        Option("out", "folder for the report, export or import", "DIR", read=path),
        Option("images", "held-out images for a report with a recipe", "16", 16, whole(1)),
    ),
    schema=Recipe,
    examples=(
        "distill cache cache=DIR                                  # what it costs",
        "distill cache do=report cache=DIR recipe=NAME ...        # bytes and fidelity, against the live teacher",
        "distill cache do=verify,export cache=DIR out=DIR",
    ),
)
