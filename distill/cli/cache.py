"""`distill cache do=report,verify,export,import cache=DIR`: what a cache costs, whether it is whole, sharing it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cache
from distill.runtime.issues import nearest, several

VERBS = ("report", "verify", "export", "import")
USAGE = "distill cache do=report,verify,export,import cache=DIR [out=DIR] [recipe=NAME [key=value ...] [images=N]]"
OWN = ("do", "cache", "out", "images")

if TYPE_CHECKING:
    from distill.runs.run import Run

CALIBRATION = 64
"""Training images on which a report fits each way to store a map."""

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Request:
    """What is to be done with which cache.

    Attributes:
        verbs: of VERBS, in the order given.
        cache: the folder.
        out: where a report, an export or an import goes; None for the default.
        images: how many held-out images a report with a teacher looks at.
        recipe: the other words: a recipe, whose teacher and data the report then uses.
    """

    verbs: tuple[str, ...]
    cache: Path
    out: Path | None
    images: int
    recipe: tuple[str, ...]


def read_request(words: Sequence[str]) -> Request:
    """The request of a command line's `key=value` words; paths are taken as they stand.

    Raises:
        ValueError: an unknown verb or key, or one that is missing.
        FileNotFoundError: the folder holds no cache.
    """
    given = {key: value for key, _, value in (word.partition("=") for word in words) if key in OWN}
    recipe = tuple(word for word in words if word.partition("=")[0] not in OWN)
    if recipe and not any(word.startswith("recipe=") for word in recipe):
        key = recipe[0].partition("=")[0]
        raise ValueError(f"distill cache has no key {key!r}{nearest(key, (*OWN, 'recipe'))}; {USAGE}")
    verbs = tuple(given.get("do", "report").strip("[]").replace(" ", "").split(","))
    for verb in verbs:
        if verb not in VERBS:
            raise ValueError(f"distill cache cannot do {verb!r}; choose from {', '.join(VERBS)}{nearest(verb, VERBS)}")
    if not given.get("cache"):
        raise ValueError(f"distill cache needs cache=DIR, as in {USAGE}")
    images = given.get("images", "16")
    if not images.isdecimal() or int(images) < 1:
        raise ValueError(f"images is {images!r}, but must be a whole number from 1 on")
    folder = Path(given["cache"]).expanduser()
    if not cache.exists(folder):
        raise FileNotFoundError(f"{folder} holds no cache (no manifest.json); do=extract makes one")
    out = Path(given["out"]).expanduser() if given.get("out") else None
    if out is None and {"export", "import"} & set(verbs):
        raise ValueError("export and import need out=DIR, the folder that the copy is written to")
    return Request(verbs, folder, out, int(images), recipe)


def cache_command(words: Sequence[str], *, dry: bool) -> int:
    """Runs `distill cache ...`; see `USAGE`.

    Args:
        words: `key=value`.
        dry: only says what would be done.

    Returns:
        the exit status: 1 if `verify` found anything.
    """
    request = read_request(words)
    if dry:
        logger.info("would %s %s of %s", " and ".join(request.verbs), request.cache,
                    several(len(cache.open(request.cache)), "record"))  # fmt: skip
        return 0
    status = 0
    for verb in request.verbs:
        if verb == "report":
            write_report(request)
        elif verb == "verify":
            status = max(status, verify(request))
        else:
            share(request, verb)
    return status


def write_report(request: Request) -> Path:
    """Writes report.md, report.json and report.png, shows the first, and returns their folder."""
    from distill.cache_report.plot import plot
    from distill.cache_report.report import markdown, report
    from distill.runtime.io import write_json, write_text

    found = report(cache.open(request.cache))
    folder = request.out or request.cache.parent / f"{request.cache.name}-report"
    text, data = markdown(found), found.to_json()
    folder.mkdir(parents=True, exist_ok=True)
    if request.recipe:
        lines, figures = with_teacher(request, folder)
        text, data = "\n".join([text, *lines]), {**data, **figures}
    if found.records:
        plot(found, folder / "report.png")
    pictures = [name for name in ("report", "rates") if (folder / f"{name}.png").is_file()]
    write_text(folder / "report.md", "\n".join([text, *(f"![{name}]({name}.png)\n" for name in pictures)]))
    write_json(folder / "report.json", data)
    sys.stdout.write(text)
    logger.info("written to %s", folder)
    return folder


def with_teacher(request: Request, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """What the live teacher adds to a report: lines of Markdown and plain data; writes rates.png."""
    from distill.cache_report.plot import plot_rates
    from distill.cache_report.rate_distortion import rate_lines, rates
    from distill.cache_report.teacher_agreement import agreement_lines, agreements, extract_maps, held_out
    from distill.config.parse import read_recipe
    from distill.extraction.teacher_inference import load_teacher
    from distill.runs.run import calibration_keys, open_run

    store = cache.open(request.cache)
    run = open_run(read_recipe(request.recipe))
    name = teacher_of(run, store)
    if run.recipe.teachers[name].prompts is not None:
        raise ValueError(
            f"teachers.{name}.prompts is set, but held-out images have no prompts to compare the live teacher by; "
            "leave recipe out, and the report tells what can be told from the cache alone"
        )
    teacher = load_teacher(run.recipe.teachers[name]).to(run.accelerator.device)
    size = store.batch_size
    samples = held_out(run, store, request.images)
    found, references = agreements(store, teacher, samples, size=size)
    fitted = set(calibration_keys(run.splits, CALIBRATION))
    training = {sample.key: sample for sample in (*run.splits.train, *run.splits.unlabelled) if sample.key in fitted}
    calibration = extract_maps(teacher, [sample.read_image() for sample in training.values()], size=size)
    maps = extract_maps(teacher, [sample.read_image() for sample in samples], size=size)
    points = [
        rate for map_, codec in store.codecs.items() for rate in rates(map_, codec, calibration[map_], maps[map_])
    ]
    plot_rates(points, folder / "rates.png", title=f"{request.cache.name}: {several(len(samples), 'held-out image')}")
    lines = [*agreement_lines(found, references, images=len(samples)), *rate_lines(points, images=len(samples))]
    figures = {
        "agreements": [asdict(each) for each in found],
        "references": [asdict(each) for each in references],
        "rates": [asdict(rate) for rate in points],
    }
    return lines, {"held_out_images": len(samples), **figures}


def teacher_of(run: Run, store: cache.Cache) -> str:
    """The recipe's name of the teacher that a cache was made with.

    Raises:
        ValueError: the recipe has none of its kind.
    """
    kind = store.identity.get("teacher")
    known = {name: teacher.adapter for name, teacher in run.recipe.teachers.items()}
    fitting = [name for name, adapter in known.items() if adapter == kind]
    same = [name for name in fitting if run.caches.get(name, Path()).resolve() == store.path.resolve()]
    if not fitting:
        told = ", ".join(f"{name} ({adapter})" for name, adapter in known.items()) or "none"
        raise ValueError(f"{store.path} was made by a {kind!r} teacher, but the recipe's teachers are {told}")
    return (same or fitting)[0]


def verify(request: Request) -> int:
    """Says what `cache.verify` finds and what to do; 1 if it finds anything. With a recipe, also what is missing."""
    folder = request.cache
    problems = cache.verify(folder, expected=expected(request) if request.recipe else ())
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    harmful = sum(problem.kind != "foreign" for problem in problems)
    if not harmful:
        sys.stdout.write(f"{folder}: every byte is as it was written\n")
        return 0
    remedy = (
        "do=extract with the recipe that made it puts it right: it extracts again what was damaged or is missing; of a "
        "copy (what teachers.NAME.cache reads) remove the files named, and export or import it again"
    )
    logger.error("%s: %s; %s", folder, several(harmful, "problem"), remedy)
    return 1


def expected(request: Request) -> list[tuple[str, str]]:
    """The records that the recipe would have extracted into the cache."""
    from distill.config.parse import read_recipe
    from distill.extraction.extract import wanted_records
    from distill.runs.run import open_run

    run = open_run(read_recipe(request.recipe))
    return wanted_records(run, teacher_of(run, cache.open(request.cache)))


def share(request: Request, verb: str) -> None:
    """Copies a cache to `out`; an export with a README that says what it is."""
    from distill.cache_report.share import copy_cache, readme
    from distill.runtime.io import write_text

    assert request.out is not None
    store = copy_cache(request.cache, request.out)
    if verb == "export":
        write_text(request.out / "README.md", readme(store))
    logger.info("%s of %s are in %s, every byte as it was written; to learn from them: teachers.NAME.cache=%s",
                several(len(store), "record"), request.cache, request.out, request.out)  # fmt: skip
